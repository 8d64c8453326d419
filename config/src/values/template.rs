//! Templates of messages (minijinja): checked when the configuration loads, bounded when they are rendered.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::serde_fault;

/// The largest template, in bytes.
const MAX_SOURCE: u64 = 256 * 1024;
/// The largest text that a template makes, in bytes.
const MAX_OUTPUT: usize = 1024 * 1024;
/// The most instructions that one rendering may take: some 0.1 s.
const FUEL: u64 = 2_000_000;
/// How deep macros and inclusions may be nested.
const DEPTH: usize = 50;

/// How values are written into the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As they are.
    Plain,
    /// With `<`, `>`, `&` and quotes replaced.
    Html,
    /// As JSON.
    Json,
}

/// A template that parses. Unknown names are faults, not empty texts.
#[derive(Clone)]
pub struct Template {
    /// The file, or the key that it stands at.
    name: String,
    source: Arc<str>,
    escape: Escape,
    environment: Arc<Environment<'static>>,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    /// The file, or the key that it stands at.
    pub name: String,
    /// From 1.
    pub line: usize,
    /// A lower-case fragment for people.
    pub message: String,
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.name, self.line, self.message)
    }
}

impl std::error::Error for TemplateFault {}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// With the line of what cannot be parsed.
    pub fn parse(name: &str, source: &str, escape: Escape) -> Result<Self, TemplateFault> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        let syntax = SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| fault(name, source, &error))?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::Plain => AutoEscape::None,
            Escape::Html => AutoEscape::Html,
            Escape::Json => AutoEscape::Json,
        });
        environment
            .add_template_owned("template", source.to_owned())
            .map_err(|error| fault(name, source, &error))?;
        Ok(Self { name: name.to_owned(), source: source.into(), escape, environment: Arc::new(environment) })
    }

    /// Reads and parses a file.
    ///
    /// # Errors
    /// When it cannot be read, is too large, is not text or cannot be parsed.
    pub fn read(path: &Path, escape: Escape) -> Result<Self, TemplateFault> {
        let name = path.display().to_string();
        let bad = |message: String| TemplateFault { name: name.clone(), line: 1, message };
        let unreadable = |error: std::io::Error| bad(format!("cannot be read: {error}"));
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > MAX_SOURCE {
            return Err(bad("a template is a plain file of at most 256 KiB".to_owned()));
        }
        Self::parse(&name, &std::fs::read_to_string(path).map_err(unreadable)?, escape)
    }

    /// Fills it in.
    ///
    /// # Errors
    /// With the line of what has no value, fails, takes too long or becomes too large.
    pub fn render(&self, context: &impl Serialize) -> Result<String, TemplateFault> {
        if self.source.is_empty() {
            return Ok(String::new());
        }
        let failed = |error: &minijinja::Error| fault(&self.name, &self.source, error);
        let template = self.environment.get_template("template").map_err(|it| failed(&it))?;
        let mut text = Bounded(Vec::new());
        let values = Value::from(Serde(context));
        template.render_captured_to(values, &mut text).map_err(|it| failed(&it))?;
        String::from_utf8(text.0).map_err(|_| TemplateFault {
            name: self.name.clone(),
            line: 1,
            message: "what it makes is not UTF-8".to_owned(),
        })
    }

    /// One that makes nothing.
    pub fn empty() -> Self {
        let environment = Arc::new(Environment::empty());
        Self { name: String::new(), source: "".into(), escape: Escape::Plain, environment }
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Stops a rendering that grows without end.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + more.len() > MAX_OUTPUT {
            return Err(std::io::Error::other("the text becomes larger than 1 MiB"));
        }
        self.0.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn fault(name: &str, source: &str, error: &minijinja::Error) -> TemplateFault {
    use std::error::Error as _;
    let part = error.range().and_then(|it| source.get(it)).map(str::trim).filter(|it| !it.is_empty());
    let reason = match (error.detail(), error.source()) {
        (_, Some(cause)) if error.kind() == minijinja::ErrorKind::WriteFailure => cause.to_string(),
        (Some(detail), _) => detail.to_owned(),
        (None, _) => error.kind().to_string(),
    };
    let message = match part {
        Some(part) if part.len() < 80 && !part.contains('\n') => format!("{reason}, in `{part}`"),
        _ => reason,
    };
    TemplateFault { name: name.to_owned(), line: error.line().unwrap_or(1), message }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.source == other.source && self.escape == other.escape
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("name", &self.name).field("escape", &self.escape).finish()
    }
}

/// A fault of a template as a serde error, which becomes a fault at the key that names it.
pub(crate) fn template_fault<E: serde::de::Error>(fault: TemplateFault) -> E {
    let help = "docs/user-guide/webhooks.md lists the names that templates know";
    serde_fault(fault, help)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(source: &str) -> Result<Template, TemplateFault> {
        Template::parse("mail.txt", source, Escape::Plain)
    }

    #[test]
    fn values_are_filled_in_as_the_escape_says() {
        let values = json!({"build": {"builder": "<linux>"}});
        assert_eq!(plain("{{ build.builder }}\n").unwrap().render(&values).unwrap(), "<linux>\n");
        let html = Template::parse("mail.html", "{{ build.builder }}", Escape::Html).unwrap();
        assert_eq!(html.render(&values).unwrap(), "&lt;linux&gt;");
        let json = Template::parse("body", "{\"text\": {{ build.builder }}}", Escape::Json).unwrap();
        let made: serde_json::Value = serde_json::from_str(&json.render(&values).unwrap()).unwrap();
        assert_eq!(made, json!({"text": "<linux>"}));
    }

    #[test]
    fn faults_have_file_and_line() {
        let parse = plain("one\n{% if %}\n").unwrap_err();
        assert!(parse.to_string().starts_with("mail.txt:2: "), "{parse}");
        let unknown = plain("one\n\n{{ build.bulider }}\n").unwrap();
        let unknown = unknown.render(&json!({"build": {"builder": "x"}})).unwrap_err();
        assert!(unknown.to_string().starts_with("mail.txt:3: "), "{unknown}");
        assert!(unknown.message.contains("bulider"), "{unknown}");
    }

    #[test]
    fn an_unknown_name_may_be_asked_for() {
        let template = plain("{% if build.nothing %}x{% endif %}y").unwrap();
        assert_eq!(template.render(&json!({"build": {}})).unwrap(), "y");
    }

    #[test]
    fn no_template_runs_or_grows_for_ever() {
        let slow =
            plain("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}").unwrap();
        assert!(slow.render(&json!({})).unwrap_err().message.contains("fuel"));
        let large = plain("{% for a in range(9999) %}{{ text }}{% endfor %}").unwrap();
        let fault = large.render(&json!({"text": "x".repeat(1_000)})).unwrap_err();
        assert!(fault.message.contains("1 MiB"), "{fault}");
    }
}
