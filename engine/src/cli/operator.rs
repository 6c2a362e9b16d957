//! Who carries out a command: the journal at hand if no engine runs on it, else the running engine.

use std::{io::Read, time::Duration};

use anyhow::{Context, anyhow, bail};
use serde::{Serialize, de::DeserializeOwned};
use tidemill_config::{plan::Plan, reference::Secret};
use tidemill_journal::{DataLock, LockError, SqliteJournal};

use super::{Failure, admin_token};
use crate::{assemble, clock, views::Refusal};

/// How long the running engine may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Who does it.
pub(super) enum Operator {
    /// This process, which holds the lock.
    Here {
        journal: Box<SqliteJournal>,
        _lock: DataLock,
    },
    /// The engine that runs.
    There(Client),
}

impl Operator {
    /// Takes the lock of the plan's data, or finds the engine that has it.
    pub(super) fn find(plan: &Plan) -> Result<Operator, Failure> {
        match DataLock::acquire(&plan.engine.data, clock::now()) {
            Ok(lock) => {
                let journal = Box::new(assemble::open_journal(&plan.engine)?);
                Ok(Operator::Here {
                    journal,
                    _lock: lock,
                })
            }
            Err(LockError::Taken { dir, holder }) => {
                let Some(address) = holder.as_ref().and_then(|holder| holder.admin.as_ref()) else {
                    let taken = LockError::Taken { dir, holder };
                    return Err(anyhow!(taken)
                        .context("it is still starting, or is another command")
                        .into());
                };
                Ok(Operator::There(Client::new(address, admin_token(plan)?)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A client of the admin API.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    token: Option<Secret>,
}

impl Client {
    pub(super) fn new(address: &str, token: Option<Secret>) -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            .build();
        Client {
            agent: config.into(),
            base: format!("http://{address}"),
            token,
        }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.agent.get(format!("{}{path}", self.base));
        self.answer(self.authorized(request).call())
    }

    /// An answer that goes on until the engine ends it.
    pub(super) fn follow(&self, path: &str) -> anyhow::Result<impl Read + use<>> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = request.config().timeout_global(None).build();
        let response = self.ok(self.authorized(request).call())?;
        Ok(response.into_body().into_reader())
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = self.agent.post(format!("{}{path}", self.base));
        self.answer(self.authorized(request).send_json(body))
    }

    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.agent.delete(format!("{}{path}", self.base));
        self.answer(self.authorized(request).call())
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.expose())),
            None => request,
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<T> {
        self.ok(response)?
            .body_mut()
            .read_json()
            .context("the engine's answer is not understood")
    }

    /// The response, unless it is a refusal.
    fn ok(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<ureq::http::Response<ureq::Body>> {
        let mut response =
            response.with_context(|| format!("cannot ask the running engine at {}", self.base))?;
        if response.status().is_success() {
            return Ok(response);
        }
        match response.body_mut().read_json::<Refusal>() {
            Ok(refusal) => bail!(refusal.error),
            Err(_) => Err(anyhow!(
                "the running engine at {} answers {}",
                self.base,
                response.status()
            )),
        }
    }
}
