//! NATS: heads over a plain subject, at most once.

use std::convert::Infallible;

use async_nats::{ConnectOptions, ServerAddr};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use crate::bus::{BusError, CONNECT_WITHIN, Wire, in_time};

/// Serves one connection until it breaks. The library's own reconnecting is left aside: it loses what it had buffered without
/// a word.
pub(crate) async fn serve(url: &str, mut wire: Wire) -> Result<Infallible, BusError> {
    let servers = servers(url)?;
    let mut options =
        ConnectOptions::new().name("greenroom").max_reconnects(1).connection_timeout(CONNECT_WITHIN);
    // The library leaves aside who the address says we are.
    if let Some((user, password)) = servers.iter().find_map(credentials) {
        options = options.user_and_password(user, password);
    }
    let client = timeout(CONNECT_WITHIN, options.connect(servers)).await.map_err(|_| BusError::Silent)?;
    let client = client.map_err(BusError::of)?;
    let mut heads = in_time(client.subscribe(wire.topic.clone())).await?;
    in_time(client.flush()).await?;
    wire.is_up();
    loop {
        tokio::select! {
            heard = heads.next() => match heard {
                Some(message) => wire.heard(&message.payload),
                None => return Err(BusError::Closed),
            },
            head = wire.next() => {
                in_time(client.publish(wire.topic.clone(), head?.encode().into())).await?;
                in_time(client.flush()).await?;
            }
        }
    }
}

/// The servers of a cluster, parted by commas; the first may say who we are.
fn servers(url: &str) -> Result<Vec<ServerAddr>, BusError> {
    url.split(',').map(|one| one.trim().parse().map_err(BusError::of)).collect()
}

fn credentials(server: &ServerAddr) -> Option<(String, String)> {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((plain(server.username()?), plain(server.password().unwrap_or_default())))
}
