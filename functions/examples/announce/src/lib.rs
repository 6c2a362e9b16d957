//! Announces what happens on GitHub: one sentence for each `github.event`, in an object of its own, and a count for
//! each repository in the store `announcements`.
//!
//! | configuration | meaning | default |
//! |---|---|---|
//! | `OUTPUT` | the bucket that the sentences go to | `announcements` |

use serde::Deserialize;
use tidemill_sdk::{Event, Failure, bucket, config, handler, kv};

/// What `github-hook` emits.
#[derive(Deserialize)]
struct GithubEvent {
    event: String,
    action: Option<String>,
    repository: Option<String>,
    organization: Option<String>,
    sender: Option<String>,
    title: Option<String>,
    url: Option<String>,
}

fn announce(event: Event) -> Result<String, Failure> {
    let github: GithubEvent = event.json()?;
    let sentence = sentence(&github);
    let output = bucket::open(config::get("OUTPUT")?.unwrap_or_else(|| "announcements".into()));
    // The event's id is the same over all attempts, so the object is written once, however often.
    output.write(&format!("{}.txt", event.id()), sentence.as_bytes())?;
    let place = github.repository.or(github.organization);
    kv::open("announcements")?.increment(place.as_deref().unwrap_or("elsewhere"), 1)?;
    Ok(sentence)
}

fn sentence(github: &GithubEvent) -> String {
    let who = github.sender.as_deref().unwrap_or("Somebody");
    let place = github.repository.as_ref().or(github.organization.as_ref());
    let mut text = format!("{who}: {}", github.event.replace('_', " "));
    if let Some(action) = &github.action {
        text += &format!(" {}", action.replace('_', " "));
    }
    if let Some(place) = place {
        text += &format!(" in {place}");
    }
    if let Some(title) = github.title.as_ref().filter(|title| Some(*title) != place) {
        // The first line of a commit's message is its title.
        text += &format!(
            ": \u{201c}{}\u{201d}",
            title.lines().next().unwrap_or_default()
        );
    }
    if let Some(url) = &github.url {
        text += &format!("\n{url}");
    }
    text + "\n"
}

handler!(announce);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(title: Option<&str>) -> GithubEvent {
        GithubEvent {
            event: "pull_request".into(),
            action: Some("opened".into()),
            repository: Some("octo-org/octo-repo".into()),
            organization: None,
            sender: Some("mona".into()),
            title: title.map(str::to_owned),
            url: None,
        }
    }

    #[test]
    fn reads_like_a_sentence() {
        assert_eq!(
            sentence(&event(Some("Add a mill\n\nThat turns."))),
            "mona: pull request opened in octo-org/octo-repo: \u{201c}Add a mill\u{201d}\n"
        );
        assert_eq!(
            sentence(&event(Some("octo-org/octo-repo"))),
            "mona: pull request opened in octo-org/octo-repo\n"
        );
    }
}
