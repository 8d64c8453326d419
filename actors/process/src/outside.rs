//! Acts on things that live outside this layer: the master itself, its actors, its notifiers.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use greenroom_model::{ControlAct, ControlAnswer};

/// Carries out acts whose targets this layer does not own. The control desk writes the answer.
///
/// An act may be carried out again when its master died before the answer was stored: what is done here must bear that.
pub trait Outside: Send + Sync + 'static {
    /// Does what is asked. None: the target is not (yet) on this master; it is asked again for a few seconds.
    fn act(&self, act: Arc<ControlAct>) -> BoxFuture<'static, Option<ControlAnswer>>;
}
