//! Replies of the current state: as long as nothing changes, the same question costs one look-up.
//!
//! One per server thread. It is emptied whenever the data layer publishes a new snapshot, so it never holds
//! more than one state and never answers an old one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
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
}

#[derive(Default)]
struct Cache {
    state: Option<Arc<Hot>>,
    /// By [`Form`].
    replies: [HashMap<Box<str>, Rendered>; 2],
    bytes: usize,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

impl Cache {
    fn holds(&self, hot: &Arc<Hot>) -> bool {
        self.state.as_ref().is_some_and(|state| Arc::ptr_eq(state, hot))
    }
}

/// The reply to `question` (path and query) in the state `hot`.
pub(crate) fn find(hot: &Arc<Hot>, form: Form, question: &str) -> Option<Rendered> {
    CACHE.with_borrow(|cache| {
        cache.holds(hot).then(|| cache.replies[form as usize].get(question).cloned()).flatten()
    })
}

/// Keeps (or replaces) the reply to `question` in the state `hot`.
pub(crate) fn keep(hot: &Arc<Hot>, form: Form, question: &str, reply: Rendered) {
    CACHE.with_borrow_mut(|cache| {
        if !cache.holds(hot) {
            *cache = Cache { state: Some(hot.clone()), ..Cache::default() };
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
