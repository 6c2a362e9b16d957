//! What HTTP asks of strings: paths, origins, names of headers, hosts with ports, addresses.
//!
//! Like `values`, everything here is a function of the string alone.

use tidemill_core::limits::PATH_PARAMETERS;

use crate::{keys::Kind, values::Wrong};

/// A path of segments, `{name}` for any one of them and `{*name}` for all at the end.
pub(crate) fn path(text: &str) -> Result<(), Wrong> {
    let wrong = |verdict: &str, help: &str| Err(wrong(Kind::HttpPath, verdict, help));
    let Some(rest) = text.strip_prefix('/') else {
        let help = format!("begin it with `/`: \"/{}\"", text.trim_end_matches('/'));
        return match text.contains("://") || text.is_empty() {
            true => wrong(
                "is not a path",
                "write what comes behind the host, such as \"/hooks/github\"",
            ),
            false => wrong("is not a path", &help),
        };
    };
    if text.contains(['?', '#']) {
        return wrong(
            "has more than a path",
            "leave out `?`, `#` and what follows: events carry the query",
        );
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong(
            "is not a path",
            "percent-encode what is no visible ASCII character, such as %20 for a space",
        );
    }
    let segments: Vec<&str> = rest.split('/').collect();
    let mut names: Vec<String> = Vec::new();
    for (n, segment) in segments.iter().enumerate() {
        let Some(name) = parameter(segment, n + 1 == segments.len())? else {
            continue;
        };
        // It becomes the name of a header, where case does not count.
        if names.contains(&name.to_ascii_lowercase()) {
            return wrong(
                "names two parameters the same",
                "give each its own name; case does not count",
            );
        }
        names.push(name.to_ascii_lowercase());
    }
    if names.len() > PATH_PARAMETERS {
        let help = format!("leave at most {PATH_PARAMETERS}; {{*name}} takes all the rest as one");
        return wrong("has too many parameters", &help);
    }
    Ok(())
}

/// The name of the parameter that a segment is, if it is one.
fn parameter(segment: &str, is_last: bool) -> Result<Option<&str>, Wrong> {
    let wrong = |verdict: &str, help: &str| Err(wrong(Kind::HttpPath, verdict, help));
    match segment {
        "" if !is_last => {
            return wrong("has an empty segment", "leave one `/` between two segments");
        }
        "." | ".." => {
            let help = "write the path as it arrives: clients resolve such segments themselves";
            return wrong("has a segment of dots", help);
        }
        _ => {}
    }
    if let Some(name) = segment.strip_prefix(':').filter(|name| is_plain(name)) {
        let help = format!("a parameter is written {{{name}}}");
        return wrong("has a parameter in the form of other tools", &help);
    }
    let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
        if segment.contains(['{', '}']) {
            let help = "let a parameter be a whole segment, such as \"/orders/{id}\"";
            return wrong("has braces inside a segment", help);
        }
        if segment.contains('*') {
            let help = "write {name} for one segment, or {*name} for all at the end";
            return wrong("has a `*` that stands for itself", help);
        }
        return Ok(None);
    };
    let plain = name.strip_prefix('*').unwrap_or(name);
    if plain != name && !is_last {
        return wrong("goes on after all the rest", "put {*name} at the end");
    }
    if !is_plain(plain) {
        let help = "name it with letters, digits, `_` and `-`, such as {id}";
        return wrong("has a parameter without a proper name", help);
    }
    Ok(Some(plain))
}

fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    !name.is_empty() && name.bytes().all(plain)
}

/// The origin of a page as browsers write it, or `*`.
pub(crate) fn origin(text: &str) -> Result<(), Wrong> {
    let wrong = |help: &str| Err(wrong(Kind::Origin, "is not an origin", help));
    let Some((scheme, host)) = text.split_once("://") else {
        return match text {
            "*" => Ok(()),
            // Browsers send it for files and sandboxes: anybody can be it.
            "null" => wrong("every page can make itself \"null\": name the origin, or write \"*\""),
            _ => wrong("write it with its scheme: \"https://app.example.com\"; or \"*\""),
        };
    };
    if let Some((host, rest)) = host.split_once('/') {
        let plain = format!("{scheme}://{host}");
        return match rest {
            "" => wrong(&format!("browsers send it without the `/`: \"{plain}\"")),
            _ => wrong(&format!("browsers send no path: \"{plain}\"")),
        };
    }
    if scheme.is_empty() || host.is_empty() || host.contains(['?', '#', ' ', '@', '*', ',']) {
        return wrong(
            "write it as browsers do: \"https://app.example.com\", with the port if it has one; or \"*\" alone",
        );
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        return wrong(&format!("browsers send it in lower case: \"{lower}\""));
    }
    let usual = [("http", ":80"), ("https", ":443")];
    let port = usual
        .iter()
        .find(|(of, port)| *of == scheme && host.ends_with(port));
    if let Some((_, port)) = port {
        let plain = text.trim_end_matches(port);
        return wrong(&format!("browsers leave the usual port out: \"{plain}\""));
    }
    Ok(())
}

/// The name of a header.
pub(crate) fn header_name(text: &str) -> Result<(), Wrong> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        return Ok(());
    }
    let help = "letters, digits, `-` and `_` make a name, such as \"X-Hub-Signature-256\"";
    Err(wrong(Kind::HeaderName, "is not the name of a header", help))
}

/// A host and a port.
pub(crate) fn host_port(text: &str) -> Result<(), Wrong> {
    match is_host_port(text) {
        true => Ok(()),
        false => Err(wrong(
            Kind::HostPort,
            "is not a host with a port",
            "write it like \"api.example.com:443\"",
        )),
    }
}

pub(crate) fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = !host.is_empty() && !host.contains([':', '/', '@', ' ', ',']);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        (plain || bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// The address of a server. What it refers to is not known here: behind a reference anything goes.
pub(crate) fn url(text: &str) -> Result<(), Wrong> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|s| text.strip_prefix(s));
    let fine = match rest {
        Some(rest) => !rest.starts_with(['/', '?', '#']) && !rest.is_empty(),
        None => text.starts_with("${"),
    };
    match fine {
        true => Ok(()),
        false => Err(wrong(
            Kind::HttpUrl,
            "is not an HTTP URL",
            "write it like \"https://api.example.com/done\"",
        )),
    }
}

fn wrong(kind: Kind, verdict: &str, help: &str) -> Wrong {
    Wrong::new(verdict, kind.expected(), help)
}
