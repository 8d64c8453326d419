//! One client for all notifiers that trust the same: what it holds of TLS (the authorities above all) is a hundred KiB and more, and
//! nothing in it belongs to a notifier. Connections are not kept, so none is shared.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::Certificate;

use super::{PublicOnly, told};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// What a client trusts; equal ones share it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Whether it connects to private addresses.
    pub allow_private: bool,
    /// Authorities to trust beside the system's, as they stand in their file now.
    pub pem: Option<Vec<u8>>,
}

/// Why there is no client.
pub(super) enum Unfit {
    /// The authorities cannot be read.
    Authorities(String),
    /// Something else.
    Client(String),
}

/// Clients live as long as somebody uses them.
static CLIENTS: LazyLock<Mutex<HashMap<Trust, Weak<reqwest::Client>>>> = LazyLock::new(Mutex::default);

/// The client that trusts this.
pub(super) fn client(trust: Trust) -> Result<Arc<reqwest::Client>, Unfit> {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = clients.get(&trust).and_then(Weak::upgrade) {
        return Ok(known);
    }
    clients.retain(|_, it| it.strong_count() > 0);
    let made = Arc::new(make(&trust)?);
    clients.insert(trust, Arc::downgrade(&made));
    Ok(made)
}

fn make(trust: &Trust) -> Result<reqwest::Client, Unfit> {
    // Refused when one is installed already, which then is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("greenroom/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .http1_only()
        .connect_timeout(CONNECT_WITHIN);
    if !trust.allow_private {
        builder = builder.dns_resolver(Arc::new(PublicOnly));
    }
    if let Some(pem) = &trust.pem {
        let found = Certificate::from_pem_bundle(pem).map_err(|it| Unfit::Authorities(told(&it)))?;
        builder = builder.tls_certs_merge(found);
    }
    builder.build().map_err(|it| Unfit::Client(told(&it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_trust_the_same_share_a_client_as_long_as_they_live() {
        let trust = |allow_private, pem: Option<&str>| Trust { allow_private, pem: pem.map(|it| it.into()) };
        let get = |it| client(it).unwrap_or_else(|_| panic!("a client"));
        // Other tests of this process use clients, too: none of them trusts this.
        let own = Some("# no authority but the system's\n");
        let one = get(trust(true, own));
        assert!(Arc::ptr_eq(&one, &get(trust(true, own))));
        assert!(!Arc::ptr_eq(&one, &get(trust(false, own))), "private addresses stay apart");
        let gone = Arc::downgrade(&one);
        drop(one);
        assert!(gone.upgrade().is_none(), "nobody uses it");
    }
}
