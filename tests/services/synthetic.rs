//! A server that speaks as much of S3 as listing and reading take, whose objects are made up when
//! they are asked for: as many and as large as a test wants, and none of them takes any room.
//!
//! It never looks at signatures, and has one bucket, whatever the name. Of what is written it keeps
//! length and digest alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// When all objects were written that are there from the beginning.
const WRITTEN: &str = "2026-01-01T00:00:00.000Z";
const WRITTEN_HTTP: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// When those were written that were added.
const ADDED: &str = "2038-01-01T00:00:00.000Z";
const ADDED_HTTP: &str = "Fri, 01 Jan 2038 00:00:00 GMT";

/// The most keys of a page.
const PAGE: usize = 1000;

/// A server; it ends with the process.
#[derive(Clone)]
pub struct Synthetic {
    state: Arc<State>,
    address: SocketAddr,
}

struct State {
    /// The number of objects that are there from the beginning.
    objects: u64,
    /// The size of each.
    size: u64,
    changing: Mutex<Changing>,
}

#[derive(Default)]
struct Changing {
    /// The numbers of objects behind each of which another one was added.
    added: BTreeSet<u64>,
    /// Requests for pages, descriptions and contents.
    pages: u64,
    heads: u64,
    gets: u64,
    /// What was written, by key.
    written: BTreeMap<String, Written>,
    /// The keys of what was deleted.
    deleted: BTreeSet<String>,
}

/// What is known of an object that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its bytes.
    pub size: u64,
    /// A digest over them, see [`digest`].
    pub digest: u64,
    /// In how many parts it came.
    pub parts: u64,
}

impl Synthetic {
    /// Starts a server on a port of its own, with so many objects of so many bytes.
    pub fn start(objects: u64, size: u64) -> Synthetic {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let state = Arc::new(State {
            objects,
            size,
            changing: Mutex::default(),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that goes ends its thread.
                thread::spawn(move || state.serve(&client).ok());
            }
        });
        Synthetic { state, address }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds an object behind each of these.
    pub fn add(&self, behind: impl IntoIterator<Item = u64>) {
        self.state.lock().added.extend(behind);
    }

    /// The keys of those that were added.
    pub fn added(&self) -> Vec<String> {
        let added = self.state.lock();
        added.added.iter().map(|&n| key(n, true)).collect()
    }

    /// How many pages, descriptions and contents it was asked for.
    pub fn asked(&self) -> (u64, u64, u64) {
        let changing = self.state.lock();
        (changing.pages, changing.heads, changing.gets)
    }

    /// Whether an object was deleted.
    pub fn is_deleted(&self, key: &str) -> bool {
        self.state.lock().deleted.contains(key)
    }

    /// What was written, by key.
    pub fn written(&self) -> BTreeMap<String, Written> {
        self.state.lock().written.clone()
    }
}

fn key(n: u64, added: bool) -> String {
    format!("{n:09}{}", if added { "-added" } else { "" })
}

/// The number of a key, and whether it was added.
fn parse(key: &str) -> Option<(u64, bool)> {
    let (digits, added) = match key.strip_suffix("-added") {
        Some(digits) => (digits, true),
        None => (key, false),
    };
    (digits.len() == 9).then_some(())?;
    Some((digits.parse().ok()?, added))
}

/// The content of every object, from `offset` on: words of no period, so that a part in the wrong
/// place is seen.
pub fn fill(offset: u64, buffer: &mut [u8]) {
    let word = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let skip = (at % 8) as usize;
        let take = (8 - skip).min(rest.len());
        let (part, more) = rest.split_at_mut(take);
        part.copy_from_slice(&word(at / 8)[skip..skip + take]);
        (rest, at) = (more, at + take as u64);
    }
}

/// Goes on with a digest of a content, by words of 8 bytes: only its last part may end within one.
pub fn digest(from: u64, bytes: &[u8]) -> u64 {
    let step = |digest: u64, bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let next = digest ^ u64::from_le_bytes(word);
        next.wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    };
    bytes.chunks(8).fold(from, step)
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    range: Option<Range<u64>>,
    length: u64,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// A content in place of the body.
    content: Option<Range<u64>>,
}

impl Answer {
    fn xml(body: String) -> Answer {
        Answer {
            status: "200 OK",
            headers: "content-type: application/xml\r\n".into(),
            body: body.into_bytes(),
            content: None,
        }
    }

    fn refused(status: &'static str, code: &str) -> Answer {
        let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Answer {
            status,
            ..Answer::xml(body)
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let (mut reader, mut writer) = (BufReader::new(client), client);
        while let Some(request) = read(&mut reader)? {
            let answer = self.answer(&request, &mut reader)?;
            let length = match &answer.content {
                Some(range) => range.end - range.start,
                None => answer.body.len() as u64,
            };
            // The date is that of objects that were written at the beginning, and a day.
            let mut head = format!(
                "HTTP/1.1 {}\r\ndate: Fri, 02 Jan 2026 00:00:00 GMT\r\ncontent-length: {length}\r\n{}\r\n",
                answer.status, answer.headers
            )
            .into_bytes();
            if request.method == "HEAD" {
                writer.write_all(&head)?;
                continue;
            }
            head.extend(answer.body);
            writer.write_all(&head)?;
            let Some(mut range) = answer.content else {
                continue;
            };
            let mut buffer = vec![0; 256 << 10];
            while !range.is_empty() {
                let take = (range.end - range.start).min(buffer.len() as u64);
                let part = &mut buffer[..take as usize];
                fill(range.start, part);
                writer.write_all(part)?;
                range.start += take;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, body: &mut impl Read) -> std::io::Result<Answer> {
        let received = receive(body, request.length)?;
        let key = request.path.trim_start_matches('/').split_once('/');
        let key = key.map_or("", |(_, key)| key);
        let has = |name: &str| request.query.contains_key(name);
        Ok(match request.method.as_str() {
            "GET" if has("list-type") => self.list(&request.query),
            "GET" | "HEAD" => self.object(request, key),
            "PUT" => self.put(key, received, has("uploadId")),
            "POST" if has("delete") => self.delete(&String::from_utf8_lossy(&received)),
            "POST" if has("uploads") => {
                self.lock().written.remove(key);
                Answer::xml(
                    "<InitiateMultipartUploadResult><UploadId>1</UploadId>\
                     </InitiateMultipartUploadResult>"
                        .into(),
                )
            }
            "POST" if has("uploadId") => Answer::xml(
                "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag>\
                 </CompleteMultipartUploadResult>"
                    .into(),
            ),
            _ => Answer::refused("501 Not Implemented", "NotImplemented"),
        })
    }

    fn delete(&self, request: &str) -> Answer {
        let keys = request.split("<Key>").skip(1);
        let keys = keys.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
        self.lock().deleted.extend(keys);
        Answer::xml("<DeleteResult></DeleteResult>".into())
    }

    /// Parts have to come one after another.
    fn put(&self, key: &str, received: Vec<u8>, part: bool) -> Answer {
        let mut changing = self.lock();
        let written = changing.written.entry(key.to_owned()).or_default();
        if !part {
            *written = Written::default();
        }
        written.size += received.len() as u64;
        written.digest = digest(written.digest, &received);
        written.parts += 1;
        Answer {
            headers: format!("etag: \"{}\"\r\n", written.parts),
            ..Answer::xml(String::new())
        }
    }

    fn is_there(&self, n: u64, added: bool) -> bool {
        let changing = self.lock();
        let made = if added {
            changing.added.contains(&n)
        } else {
            n < self.objects
        };
        made && !changing.deleted.contains(&key(n, added))
    }

    fn object(&self, request: &Request, key: &str) -> Answer {
        let found = parse(key).filter(|&(n, added)| self.is_there(n, added));
        let Some((n, added)) = found else {
            return Answer::refused("404 Not Found", "NoSuchKey");
        };
        let mut changing = self.lock();
        match request.method.as_str() {
            "HEAD" => changing.heads += 1,
            _ => changing.gets += 1,
        }
        drop(changing);
        let modified = if added { ADDED_HTTP } else { WRITTEN_HTTP };
        let mut headers = format!("etag: \"{n:x}\"\r\nlast-modified: {modified}\r\n");
        let mut content = 0..self.size;
        let mut status = "200 OK";
        if let Some(range) = &request.range {
            content = range.start.min(self.size)..range.end.min(self.size);
            if content.is_empty() {
                return Answer::refused("416 Range Not Satisfiable", "InvalidRange");
            }
            status = "206 Partial Content";
            let (from, to, size) = (content.start, content.end - 1, self.size);
            let _ = write!(headers, "content-range: bytes {from}-{to}/{size}\r\n");
        }
        Answer {
            status,
            headers,
            body: Vec::new(),
            content: Some(content),
        }
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let after = ["continuation-token", "start-after"].map(|name| query.get(name));
        let after = after.into_iter().flatten().next().map(String::as_str);
        let limit = query.get("max-keys").and_then(|n| n.parse().ok());
        let limit = limit.unwrap_or(PAGE).min(PAGE);
        let (from, with_itself) = match after.map(parse) {
            None => (0, true),
            // Behind an added one comes the next.
            Some(Some((n, true))) => (n + 1, true),
            Some(Some((n, false))) => (n, false),
            Some(None) => return Answer::refused("400 Bad Request", "InvalidToken"),
        };
        let mut changing = self.lock();
        changing.pages += 1;
        let mut xml = String::with_capacity(200 * limit + 400);
        xml.push_str("<ListBucketResult>");
        let (mut count, mut last, mut more) = (0, None, false);
        'page: for n in from..self.objects {
            for added in [false, true] {
                let listed = match added {
                    false => n > from || with_itself,
                    true => changing.added.contains(&n),
                };
                let deleted = !changing.deleted.is_empty();
                if !listed || (deleted && changing.deleted.contains(&key(n, added))) {
                    continue;
                }
                if count == limit {
                    more = true;
                    break 'page;
                }
                let (suffix, modified) = match added {
                    true => ("-added", ADDED),
                    false => ("", WRITTEN),
                };
                let _ = write!(
                    xml,
                    "<Contents><Key>{n:09}{suffix}</Key><LastModified>{modified}</LastModified>\
                     <ETag>&quot;{n:x}&quot;</ETag><Size>{}</Size><StorageClass>STANDARD\
                     </StorageClass></Contents>",
                    self.size
                );
                (count, last) = (count + 1, Some((n, added)));
            }
        }
        let _ = write!(
            xml,
            "<KeyCount>{count}</KeyCount><IsTruncated>{more}</IsTruncated>"
        );
        if let (true, Some((n, added))) = (more, last) {
            let next = key(n, added);
            let _ = write!(xml, "<NextContinuationToken>{next}</NextContinuationToken>");
        }
        xml.push_str("</ListBucketResult>");
        Answer::xml(xml)
    }
}

/// The next request, without its body; none, if the client is through.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut request = Request {
        method: method.to_owned(),
        path: decode(path),
        query: pairs.map(|(k, v)| (decode(k), decode(v))).collect(),
        range: None,
        length: 0,
    };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(request));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => request.length = value.parse().unwrap_or(0),
            "range" => {
                let range = value.trim_start_matches("bytes=").split_once('-');
                let number = |text: &str| text.parse::<u64>().ok();
                request.range = range.and_then(|(from, to)| {
                    let to = number(to).map_or(u64::MAX, |to| to + 1);
                    Some(number(from)?..to)
                });
            }
            _ => {}
        }
    }
}

fn receive(body: &mut impl Read, length: u64) -> std::io::Result<Vec<u8>> {
    let mut received = Vec::new();
    body.take(length).read_to_end(&mut received)?;
    Ok(received)
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = more.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
