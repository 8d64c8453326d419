//! Replies of the current state: as long as nothing changes, the same question costs one look-up.
//!
//! One per server thread. It is emptied whenever the data layer publishes a new snapshot, or another configuration is in
//! force, so it never holds more than one state and never answers an old one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use greenroom_config::Settings;
use greenroom_data::Hot;

/// The most replies kept, and the most bytes.
const MAX_REPLIES: usize = 256;
const MAX_BYTES: usize = 8 << 20;

/// How a reply is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For programs: compact.
    Compact,
    /// For people: indented.
    Indented,
}

/// A rendered reply.
#[derive(Clone)]
pub(crate) struct Rendered {
    /// Its body.
    pub(crate) body: Bytes,
    /// The body's version.
    pub(crate) etag: Arc<str>,
    /// The body by gzip, once somebody asked for it.
    pub(crate) gzipped: Option<Bytes>,
    /// Where the next page is.
    pub(crate) next: Option<Arc<str>>,
}

/// What a reply follows from.
#[derive(Clone)]
pub(crate) struct Basis {
    /// The state.
    pub(crate) hot: Arc<Hot>,
    /// The configuration.
    pub(crate) settings: Arc<Settings>,
}

#[derive(Default)]
struct Cache {
    basis: Option<Basis>,
    /// By [`Form`].
    replies: [HashMap<Box<str>, Rendered>; 2],
    bytes: usize,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

impl Cache {
    fn holds(&self, basis: &Basis) -> bool {
        let same =
            |it: &Basis| Arc::ptr_eq(&it.hot, &basis.hot) && Arc::ptr_eq(&it.settings, &basis.settings);
        self.basis.as_ref().is_some_and(same)
    }
}

/// The reply to `question` (path and query) that follows from `basis`.
pub(crate) fn find(basis: &Basis, form: Form, question: &str) -> Option<Rendered> {
    CACHE.with_borrow(|cache| {
        cache.holds(basis).then(|| cache.replies[form as usize].get(question).cloned()).flatten()
    })
}

/// Keeps (or replaces) the reply to `question` that follows from `basis`.
pub(crate) fn keep(basis: &Basis, form: Form, question: &str, reply: Rendered) {
    CACHE.with_borrow_mut(|cache| {
        if !cache.holds(basis) {
            *cache = Cache { basis: Some(basis.clone()), ..Cache::default() };
        }
        let size = size_of(question, &reply);
        if let Some(old) = cache.replies[form as usize].remove(question) {
            cache.bytes -= size_of(question, &old);
        }
        let kept: usize = cache.replies.iter().map(HashMap::len).sum();
        if kept < MAX_REPLIES && cache.bytes + size <= MAX_BYTES {
            cache.bytes += size;
            cache.replies[form as usize].insert(question.into(), reply);
        }
    });
}

fn size_of(question: &str, reply: &Rendered) -> usize {
    question.len() + reply.body.len() + reply.gzipped.as_ref().map_or(0, Bytes::len)
}
