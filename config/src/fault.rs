//! What is wrong with a configuration, and how it is shown.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::json;

/// The longest value that is repeated in a fault, in characters.
const MAX_VALUE: usize = 80;

/// Whether the configuration can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but something in it is probably not meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Where something stands: in a file, a variable or a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's path, `environment`, `--set` or `built-in defaults`.
    pub source: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In bytes of `text`.
    pub span: Range<usize>,
    /// The whole source, its secrets blotted out.
    pub(crate) text: Arc<str>,
    /// For ordering by layer.
    pub(crate) layer: usize,
}

impl Place {
    pub(crate) fn new(source: &str, layer: usize, text: &Arc<str>, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let end = text.ceil_char_boundary(span.end.max(start));
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            source: source.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span: start..end,
            text: Arc::clone(text),
            layer,
        }
    }

    /// Line and column just behind it, counted as `line` and `column` are.
    pub fn end(&self) -> (usize, usize) {
        let before = &self.text[..self.span.end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// What stands there.
    fn value(&self) -> String {
        let text = &self.text[self.span.clone()];
        match text.char_indices().nth(MAX_VALUE) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        }
    }
}

/// Something that explains a fault, often by another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A lower-case fragment for people.
    pub message: String,
    /// The place that it speaks of, if it speaks of one.
    pub place: Option<Place>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether the configuration can still be used.
    pub severity: Severity,
    /// What kind of fault it is, such as `unknown-key`; stable, for programs.
    pub code: &'static str,
    /// A lower-case fragment for people.
    pub message: String,
    /// The key that it is about, such as `builders.linux.steps[0].timeout`; may be empty.
    pub key: String,
    /// Where it stands, if it stands anywhere.
    pub place: Option<Place>,
    /// What explains it.
    pub notes: Vec<Note>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Fault {
    pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Fault {
            severity: Severity::Error,
            code,
            message: message.into(),
            key: String::new(),
            place: None,
            notes: Vec::new(),
            help: None,
        }
    }

    pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Fault { severity: Severity::Warning, ..Fault::error(code, message) }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into()).filter(|it| !it.is_empty());
        self
    }

    pub(crate) fn note(mut self, message: impl Into<String>, place: Option<Place>) -> Self {
        self.notes.push(Note { message: message.into(), place });
        self
    }

    /// The text of the value at fault as it was written, shortened, secrets blotted out.
    pub fn value(&self) -> Option<String> {
        self.place.as_ref().map(Place::value).filter(|it| !it.is_empty())
    }

    /// As a compiler would show it; with colours of a terminal if wanted.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message).id(self.code);
        let mut group = match &self.place {
            Some(place) => title.element(snippet(place, AnnotationKind::Primary)),
            None => Group::with_title(title),
        };
        let (elsewhere, here): (Vec<&Note>, Vec<&Note>) =
            self.notes.iter().partition(|it| it.place.is_some());
        for note in here {
            group = group.element(Level::NOTE.message(&note.message));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let mut groups = vec![group];
        for note in elsewhere {
            let title = Level::NOTE.secondary_title(&note.message);
            let place = note.place.as_ref().map(|it| snippet(it, AnnotationKind::Context));
            groups.push(match place {
                Some(place) => title.element(place),
                None => Group::with_title(title),
            });
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&groups)
    }

    /// For editors and CI; the form is documented in `docs/reference/check.md`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = place_json(self.place.as_ref());
        let notes = self.notes.iter().map(|note| {
            let mut json = place_json(note.place.as_ref());
            json.insert("message".to_owned(), json!(note.message));
            json
        });
        json.extend([
            ("severity".to_owned(), json!(self.severity.as_str())),
            ("code".to_owned(), json!(self.code)),
            ("message".to_owned(), json!(self.message)),
            ("key".to_owned(), json!(self.key)),
            ("value".to_owned(), json!(self.value())),
            ("notes".to_owned(), notes.collect()),
            ("help".to_owned(), json!(self.help)),
        ]);
        json.into()
    }
}

/// The lines around a place, with the place marked.
fn snippet(place: &Place, kind: AnnotationKind) -> Snippet<'_, Annotation<'_>> {
    Snippet::source(&*place.text).path(&place.source).annotation(kind.span(place.span.clone()))
}

/// `file`, `line`, `column`, `end_line`, `end_column`; all null for what stands nowhere.
fn place_json(place: Option<&Place>) -> serde_json::Map<String, serde_json::Value> {
    let end = place.map(Place::end);
    let entries = [
        ("file", json!(place.map(|it| &it.source))),
        ("line", json!(place.map(|it| it.line))),
        ("column", json!(place.map(|it| it.column))),
        ("end_line", json!(end.map(|it| it.0))),
        ("end_column", json!(end.map(|it| it.1))),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Everything that is wrong with a configuration, errors and warnings, in the order of the layers and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn new(mut faults: Vec<Fault>) -> Self {
        sort(&mut faults);
        Faults(faults)
    }

    /// As a list.
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// As a compiler would show them, with a closing line that counts.
    pub fn render(&self, color: bool) -> String {
        render(&self.0, color)
    }

    /// An array of [`Fault::to_json`].
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(Fault::to_json).collect()
    }
}

pub(crate) fn sort(faults: &mut [Fault]) {
    faults.sort_by_key(|fault| {
        let place = fault.place.as_ref();
        (place.map(|it| (it.layer, it.span.start)), fault.severity, fault.key.clone())
    });
}

pub(crate) fn render(faults: &[Fault], color: bool) -> String {
    let mut text = String::new();
    for fault in faults {
        text.push_str(&fault.render(color));
        text.push_str("\n\n");
    }
    let count = |severity| faults.iter().filter(|it| it.severity == severity).count();
    let plural =
        |count, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let counts: Vec<String> = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| plural(count, word))
        .collect();
    text.push_str(&counts.join(", "));
    text
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}

/// `did you mean …?`, if one of the known names is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let lower = name.to_lowercase();
    let best = known.map(|it| (strsim::damerau_levenshtein(&lower, &it.to_lowercase()), it)).min()?;
    (best.0 <= 1 + name.chars().count() / 4).then(|| format!("did you mean `{}`?", best.1))
}

/// `did you mean …?`, or what there is.
pub(crate) fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    did_you_mean(name, known.clone()).unwrap_or_else(|| match known.collect::<Vec<_>>() {
        names if names.is_empty() => "there are none".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    })
}
