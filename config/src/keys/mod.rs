//! The types of the table of keys, and how to look something up in it.
//!
//! The table itself is in `table.rs`. The walk checks files against it, takes the defaults from it,
//! and whoever writes documentation or a JSON Schema reads it: nothing about a key is said twice.
//! Rules that join several keys are not here but in `rules`.

mod table;

pub use table::KEYS;

/// One key of the file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path, such as `functions.*.memory`; `*` stands for a name that the user chooses.
    pub path: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// Whether it may be left out.
    pub need: Need,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// Whether the engine has it; if not, files may hold it, but `run` stops at any value other
    /// than the default.
    pub built: bool,
}

/// Whether a key may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be there; with an example.
    Required(&'static str),
    /// It may be left out, and then has this value.
    Default(&'static str),
    /// It may be left out, and then nothing stands for it.
    Optional,
    /// Exactly one of the keys with this mark must be in the table; the text says what they are.
    OneOf(&'static str),
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table with the keys of the table of keys.
    Table,
    /// A table whose keys the user chooses, of the form of a name.
    Named,
    /// A table whose keys the user chooses freely.
    Map,
    /// A table whose keys are names of headers.
    Headers,
    /// `true` or `false`.
    Flag,
    /// A whole number between the two, inclusive.
    Whole(u64, u64),
    /// A duration between the two, inclusive.
    Duration(&'static str, &'static str),
    /// A number of bytes between the two, inclusive.
    Size(&'static str, &'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or a table.
    WordOrTable(&'static [&'static str]),
    /// Elements of a kind, at least so many.
    List(&'static Kind, usize),
    /// A string that is not empty.
    Filled,
    /// The start of object keys.
    Prefix,
    /// The end of object keys.
    Suffix,
    /// 1 to 64 of the characters `a-z A-Z 0-9 _ . -`.
    Name,
    /// A string that may hold references.
    Text,
    /// A string that may hold references and is never shown.
    Secret,
    /// A file or folder, relative to the folder of the TOML file.
    Path,
    /// An IP address and a port.
    Address,
    /// The URL of a bucket.
    BucketUrl,
    /// `sqlite`, or the URL of a PostgreSQL database.
    Journal,
    /// A place in an event: `$.json.path`, `header:Name` or `attr:subject`.
    Selector,
    /// A selector, `partition` or `none`.
    Order,
    /// So many per second, minute or hour.
    Rate,
    /// A cron expression of five fields, or six.
    Cron,
    /// The IANA name of a time zone.
    Zone,
    /// An instant with its offset from UTC.
    Instant,
    /// A host and a port.
    HostPort,
    /// The path of a URL.
    HttpPath,
    /// The name of a header.
    HeaderName,
    /// A list of values and patterns that an attribute may match.
    Patterns,
    /// Tables of any depth that end in such lists.
    PatternTree,
    /// A list of tables like [`Kind::Table`] `filter`.
    Filters,
    /// The origin of a page, or `*`.
    Origin,
    /// The URL of an HTTP server; may hold references and is never shown.
    HttpUrl,
    /// The key of an object, with placeholders.
    ObjectKey,
    /// The URL of an AMQP broker; may hold references and is never shown.
    AmqpUrl,
    /// A host and a port of a Kafka cluster.
    Broker,
    /// The name of a queue.
    Queue,
    /// The name of an exchange or a routing key, perhaps empty.
    ShortString,
    /// The name of a Kafka topic.
    Topic,
    /// `earliest`, `latest` or an instant with its offset from UTC.
    Start,
}

impl Key {
    /// The last part of its path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the table it is in; empty for the file itself.
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// Its default as TOML.
    pub fn default_toml(&self) -> Option<String> {
        match self.need {
            Need::Default(text) => Some(self.kind.toml(text)),
            _ => None,
        }
    }

    /// `key = value` as one would write it.
    pub fn example(&self) -> String {
        format!("{} = {}", self.name(), self.example_value())
    }

    /// A value as one would write it.
    pub fn example_value(&self) -> String {
        match (self.need, self.kind) {
            (_, Kind::Table) => self.table_example(),
            (Need::Default("" | "[]" | "{}"), _) => self.kind.example(),
            (Need::Required(text) | Need::Default(text), _) => self.kind.toml(text),
            _ => self.kind.example(),
        }
    }

    /// A table with what must be in it.
    fn table_example(&self) -> String {
        let needed = |key: &&Key| matches!(key.need, Need::Required(_) | Need::OneOf(_));
        let mut keys: Vec<_> = children(self.path).filter(needed).collect();
        if let Some(second) = keys
            .iter()
            .skip(1)
            .position(|key| matches!(key.need, Need::OneOf(_)))
        {
            keys.truncate(second + 1);
        }
        if keys.is_empty() {
            keys.extend(children(self.path).next());
        }
        let lines: Vec<_> = keys.iter().map(|key| key.example()).collect();
        format!("{{ {} }}", lines.join(", "))
    }
}

impl Kind {
    /// Whether a value that stands in the file is never shown.
    pub(crate) fn is_secret(self) -> bool {
        matches!(
            self,
            Kind::Secret | Kind::Journal | Kind::HttpUrl | Kind::AmqpUrl
        )
    }

    /// The text as a TOML value of this kind: strings get their quotes.
    fn toml(self, text: &str) -> String {
        match self {
            Kind::Flag | Kind::Whole(..) | Kind::List(..) => text.to_owned(),
            Kind::Table | Kind::Named | Kind::Map | Kind::Headers => text.to_owned(),
            Kind::Patterns | Kind::PatternTree | Kind::Filters => text.to_owned(),
            _ => format!("\"{text}\""),
        }
    }

    /// A TOML value of this kind.
    pub fn example(self) -> String {
        let text = match self {
            Kind::Table | Kind::Named | Kind::PatternTree => "{ ... }",
            Kind::Filters => "[{ type = [\"value\"] }]",
            Kind::Origin => "https://app.example.com",
            Kind::HttpUrl => "https://api.example.com/",
            Kind::ObjectKey => "{trigger}/{id}",
            Kind::AmqpUrl => "amqp://guest:${env:AMQP_PASSWORD}@127.0.0.1:5672/%2f",
            Kind::Queue | Kind::ShortString => "orders",
            Kind::Topic => "readings",
            Kind::Broker => "127.0.0.1:9092",
            Kind::Start => "earliest",
            Kind::Map => "{ NAME = \"value\" }",
            Kind::Headers => "{ X-Name = \"value\" }",
            Kind::Flag => "true",
            Kind::Whole(least, _) => return least.to_string(),
            Kind::Duration(..) => "30s",
            Kind::Size(..) => "128MiB",
            Kind::Word(words) | Kind::WordOrTable(words) => words[0],
            Kind::List(kind, _) => return format!("[{}]", kind.example()),
            Kind::Patterns => "[\"value\"]",
            Kind::Filled | Kind::Text => "text",
            Kind::Prefix => "in/",
            Kind::Suffix => ".jpg",
            Kind::Name => "name",
            Kind::Secret => "${env:NAME}",
            Kind::Path => "folder/file",
            Kind::Address => "127.0.0.1:8080",
            Kind::BucketUrl => "file:./buckets/uploads",
            Kind::Journal => "sqlite",
            Kind::Selector | Kind::Order => "$.order_id",
            Kind::Rate => "200/s",
            Kind::Cron => "0 2 * * *",
            Kind::Zone => "Europe/Berlin",
            Kind::Instant => "2027-01-01T00:00:00Z",
            Kind::HostPort => "api.example.com:443",
            Kind::HttpPath => "/hooks/github",
            Kind::HeaderName => "X-Name",
        };
        self.toml(text)
    }

    /// What is expected, after the word "expected".
    pub fn expected(self) -> String {
        match self {
            Kind::Table | Kind::Named | Kind::Map => "a table".into(),
            Kind::Headers => "a table with names of headers".into(),
            Kind::PatternTree => "a table of fields".into(),
            Kind::Flag => "true or false".into(),
            Kind::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Duration(..) => "a duration with its unit".into(),
            Kind::Size(..) => "a size with its unit".into(),
            Kind::Word(words) => quoted_list(words.iter(), "or"),
            Kind::WordOrTable(words) => format!("{} or a table", quoted_list(words.iter(), "or")),
            Kind::List(Kind::Word(words), _) => {
                format!("a list of {}", quoted_list(words.iter(), "or"))
            }
            Kind::List(Kind::Name, _) => "a list of names".into(),
            Kind::List(Kind::HostPort | Kind::Broker, _) => "a list of hosts with ports".into(),
            Kind::List(Kind::HeaderName, _) => "a list of names of headers".into(),
            Kind::List(Kind::Origin, _) => "a list of origins".into(),
            Kind::List(Kind::Topic, _) => "a list of topics".into(),
            Kind::List(..) => "a list of strings".into(),
            Kind::Patterns => "a list of values and patterns".into(),
            Kind::Filters => "a list of filters".into(),
            Kind::Origin => "a scheme with a host, such as https://app.example.com, or *".into(),
            Kind::HttpUrl => "a URL that starts with http:// or https://".into(),
            Kind::ObjectKey => "the key of an object, as a string".into(),
            Kind::AmqpUrl => "a URL that starts with amqp:// or amqps://".into(),
            Kind::Queue => "the name of a queue, of 1 to 255 bytes".into(),
            Kind::ShortString => "a string of at most 255 bytes".into(),
            Kind::Topic => "a topic: at most 249 of the characters a-z A-Z 0-9 _ . -".into(),
            Kind::Start => "\"earliest\", \"latest\" or an instant with its offset".into(),
            Kind::Filled | Kind::Text | Kind::Secret => "a string".into(),
            Kind::Prefix => "the start of object keys, as a string".into(),
            Kind::Suffix => "the end of object keys, as a string".into(),
            Kind::Name => "a name".into(),
            Kind::Path => "a path".into(),
            Kind::Address => "an IP address with a port".into(),
            Kind::BucketUrl => "a URL that starts with file:, s3://, gs:// or az://".into(),
            Kind::Journal => "\"sqlite\" or a postgres:// URL".into(),
            Kind::Selector => "$.json.path, header:Name or attr:name".into(),
            Kind::Order => "$.json.path, header:Name, attr:name, partition or none".into(),
            Kind::Rate => "a number per s, m or h".into(),
            Kind::Cron => "a cron expression of five or six fields".into(),
            Kind::Zone => "the IANA name of a time zone".into(),
            Kind::Instant => "a date and time with its offset".into(),
            Kind::HostPort | Kind::Broker => "a host with a port".into(),
            Kind::HttpPath => "a path such as /hooks/github or /orders/{id}".into(),
            Kind::HeaderName => "the name of a header".into(),
        }
    }
}

/// The keys of the table at this path, `*` standing for names; the path of the file itself is empty.
pub fn children(path: &str) -> impl Iterator<Item = &'static Key> + '_ {
    KEYS.iter().filter(move |key| key.parent() == path)
}

/// `"a", "b" or "c"`.
pub(crate) fn quoted_list<T: AsRef<str>>(words: impl Iterator<Item = T>, last: &str) -> String {
    join(words.map(|word| format!("\"{}\"", word.as_ref())), last)
}

/// `a, b or c`.
pub(crate) fn join(words: impl Iterator<Item = String>, last: &str) -> String {
    let words: Vec<_> = words.collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}
