//! What commands would need to know; there are none here.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::Settings;
use greenroom_model::BuildRequestId;
use greenroom_status::AboutFarm;

pub struct About(pub Arc<Settings>);

impl AboutFarm for About {
    fn settings(&self) -> Arc<Settings> {
        self.0.clone()
    }

    fn why_waits(&self, _: BuildRequestId) -> BoxFuture<'static, Option<String>> {
        async { None }.boxed()
    }
}
