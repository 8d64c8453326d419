//! NATS: heads over a plain subject, at most once.

use std::convert::Infallible;

use async_nats::ConnectOptions;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::bus::{BusError, CONNECT_WITHIN, Wire, in_time};

/// Serves one connection until it breaks. The library's own reconnecting is left aside: it loses what it had buffered without
/// a word.
pub(crate) async fn serve(url: &str, mut wire: Wire) -> Result<Infallible, BusError> {
    let options =
        ConnectOptions::new().name("greenroom").max_reconnects(1).connection_timeout(CONNECT_WITHIN);
    let client = timeout(CONNECT_WITHIN, options.connect(url)).await.map_err(|_| BusError::Silent)?;
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
