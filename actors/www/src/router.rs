//! Path patterns, in the notation of the contract: `builders/n:builderid/builds`.
//!
//! `n:` matches an integer, `i:` an identifier, `s:` any text; other elements match themselves. Where several
//! patterns fit, the first of the table counts.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use greenroom_data::Hot;
use percent_encoding::percent_decode_str;

use crate::error::ApiError;
use crate::query::Params;
use crate::reply::Reply;
use crate::www::Www;

/// What an element of a path stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arg {
    /// An integer (`n:`).
    Number(i64),
    /// A text (`i:`, `s:`).
    Text(String),
}

/// A request, as an endpoint sees it.
#[derive(Clone)]
pub(crate) struct Call {
    /// The edge.
    pub(crate) www: Www,
    /// The configuration at the beginning of the request.
    pub(crate) settings: std::sync::Arc<greenroom_config::Settings>,
    /// The hot state at the beginning of the request.
    pub(crate) hot: std::sync::Arc<Hot>,
    /// The variable elements of the path, in order.
    pub(crate) args: Rc<[Arg]>,
    /// The parameters of the query.
    pub(crate) params: Rc<Params>,
    /// The path below `/api/v2`, for messages.
    pub(crate) path: Rc<str>,
    /// Whether the client asked for JSON; else it gets the same for people.
    pub(crate) wants_json: bool,
}

impl Call {
    /// The integer at position `index` of the variable elements.
    ///
    /// # Errors
    /// An internal error if the pattern has no integer there.
    pub(crate) fn number(&self, index: usize) -> Result<i64, ApiError> {
        match self.args.get(index) {
            Some(Arg::Number(n)) => Ok(*n),
            _ => Err(ApiError::Internal(format!("no number {index} in the pattern of {}", self.path))),
        }
    }

    /// The variable element at `index`.
    ///
    /// # Errors
    /// An internal error if the pattern has none there.
    pub(crate) fn arg(&self, index: usize) -> Result<&Arg, ApiError> {
        self.args.get(index).ok_or_else(|| ApiError::Internal(format!("no element {index} in {}", self.path)))
    }

    /// The address of the page that goes on after `last` in order of `key`: this one's, with another beginning.
    pub(crate) fn next_page(&self, key: &str, descending: bool, last: i64) -> String {
        let filter = format!("{key}__{}", if descending { "lt" } else { "gt" });
        let kept = self.params.iter().filter(|(name, _)| *name != filter && name != "offset");
        let last = last.to_string();
        let all: Vec<(&str, &str)> = kept
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain([(filter.as_str(), last.as_str())])
            .collect();
        let query = serde_urlencoded::to_string(all).unwrap_or_default();
        let root = self.settings.master.url.path();
        format!("</{root}api/v2/{}?{query}>; rel=\"next\"", self.path)
    }

    /// The answer to an entity that is not there.
    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::NotFound(self.path.to_string())
    }
}

/// What an endpoint answers.
pub(crate) enum Answer {
    /// The envelope of the contract.
    Items(Items),
    /// Anything else, such as the text of a log.
    Other(Reply),
}

/// Rendered entities for the envelope of the contract.
pub(crate) struct Items {
    /// The key that they stand under.
    pub(crate) plural: &'static str,
    /// The public form of each, as JSON text.
    pub(crate) items: Vec<std::sync::Arc<str>>,
    /// The size of the whole collection; none for a single entity.
    pub(crate) total: Option<u64>,
    /// What they were read at; the hot state's, if it is none.
    pub(crate) clock: Option<greenroom_model::Clock>,
    /// Whether the same question has the same answer as long as the state is the same.
    pub(crate) lasting: bool,
    /// What else the reply says of the whole.
    pub(crate) paging: Paging,
}

/// What a reply says of a collection beside its size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paging {
    /// The size was counted only so far: there are at least so many.
    pub(crate) at_least: bool,
    /// Whether there are more after this page, for collections whose size is not told.
    pub(crate) more: Option<bool>,
    /// Where the next page is.
    pub(crate) next: Option<String>,
}

/// The future of an endpoint.
pub(crate) type Answering = LocalBoxFuture<'static, Result<Answer, ApiError>>;

/// One endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    /// Its path pattern.
    pub(crate) pattern: &'static str,
    /// The key that its entities stand under.
    pub(crate) plural: &'static str,
    /// Answers.
    pub(crate) get: fn(Call) -> Answering,
}

/// `route("builds", "builds", |call| ...)`: an endpoint from an async block.
macro_rules! route {
    ($pattern:expr, $plural:literal, $call:ident => $body:expr) => {
        $crate::router::Route {
            pattern: $pattern,
            plural: $plural,
            get: |$call| Box::pin(async move { $body.await }),
        }
    };
}
pub(crate) use route;

enum Segment {
    Word(&'static str),
    Number,
    Identifier,
    Text,
}

/// The table of endpoints, ready to be searched.
pub(crate) struct Router {
    /// By number of elements.
    routes: Vec<Vec<(Vec<Segment>, &'static Route)>>,
}

impl Router {
    /// The table of all `families`.
    pub(crate) fn new(families: &[&'static [Route]]) -> Self {
        let mut routes: Vec<Vec<_>> = Vec::new();
        for route in families.iter().flat_map(|family| family.iter()) {
            let segments: Vec<_> = elements(route.pattern).map(segment).collect();
            while routes.len() <= segments.len() {
                routes.push(Vec::new());
            }
            routes[segments.len()].push((segments, route));
        }
        Self { routes }
    }

    /// The endpoint of a raw path below `/api/v2` (without leading `/`), with its variable elements.
    pub(crate) fn find(&self, path: &str) -> Option<(&'static Route, Vec<Arg>)> {
        let parts: Option<Vec<String>> = elements(path)
            .map(|raw| percent_decode_str(raw).decode_utf8().ok().map(|text| text.into_owned()))
            .collect();
        let parts = parts?;
        let candidates = self.routes.get(parts.len())?;
        candidates.iter().find_map(|(segments, route)| Some((*route, take(segments, &parts)?)))
    }
}

/// The elements of a path; the empty path has none.
fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(move |_| !path.is_empty())
}

fn segment(text: &'static str) -> Segment {
    match text.split_once(':') {
        Some(("n", _)) => Segment::Number,
        Some(("i", _)) => Segment::Identifier,
        Some(("s", _)) => Segment::Text,
        _ => Segment::Word(text),
    }
}

fn take(segments: &[Segment], parts: &[String]) -> Option<Vec<Arg>> {
    let mut args = Vec::new();
    for (segment, part) in segments.iter().zip(parts) {
        match segment {
            Segment::Word(word) if word == part => {}
            Segment::Word(_) => return None,
            Segment::Number => args.push(Arg::Number(part.parse().ok()?)),
            Segment::Identifier if is_identifier(part) => args.push(Arg::Text(part.clone())),
            Segment::Identifier => return None,
            Segment::Text if part.is_empty() => return None,
            Segment::Text => args.push(Arg::Text(part.clone())),
        }
    }
    Some(args)
}

/// `^[A-Za-z_-][A-Za-z0-9._-]*$`
fn is_identifier(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().next().is_some_and(|c| inner(c) && !c.is_ascii_digit() && c != '.')
        && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: Call) -> Answering {
        Box::pin(async { Err(ApiError::Internal("not called".into())) })
    }

    static ROUTES: &[Route] = &[
        Route { pattern: "", plural: "rootlinks", get: none },
        Route { pattern: "builders", plural: "a", get: none },
        Route { pattern: "builders/n:builderid", plural: "by id", get: none },
        Route { pattern: "builders/s:name", plural: "by name", get: none },
        Route { pattern: "workers/i:name/builds", plural: "identifier", get: none },
    ];

    fn find(path: &str) -> Option<(&'static str, Vec<Arg>)> {
        Router::new(&[ROUTES]).find(path).map(|(route, args)| (route.plural, args))
    }

    #[test]
    fn the_type_of_an_element_decides() {
        assert_eq!(find(""), Some(("rootlinks", vec![])));
        assert_eq!(find("builders"), Some(("a", vec![])));
        assert_eq!(find("builders/7"), Some(("by id", vec![Arg::Number(7)])));
        assert_eq!(find("builders/a%2Fb%20c"), Some(("by name", vec![Arg::Text("a/b c".into())])));
        assert_eq!(find("workers/w-1.x/builds"), Some(("identifier", vec![Arg::Text("w-1.x".into())])));
    }

    #[test]
    fn everything_else_is_no_path() {
        for path in [
            "builders/",
            "/builders",
            "builders//",
            "Builders",
            "builders/1/x",
            "workers/1w/builds",
            "workers/a b/builds",
            "builders/%ff",
            "nosuch",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }
}
