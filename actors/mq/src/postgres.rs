//! PostgreSQL as a bus: LISTEN and NOTIFY, over connections of their own. A notification is sent after the commit that it tells
//! of, outside of any transaction, since it takes a lock that the whole server shares.

use std::convert::Infallible;

use sqlx::postgres::{PgConnection, PgListener};
use sqlx::{Connection, Executor};
use tokio::time::timeout;

use crate::bus::{BusError, CONNECT_WITHIN, Wire, in_time};

/// Serves two connections until one breaks.
pub(crate) async fn serve(url: &str, mut wire: Wire) -> Result<Infallible, BusError> {
    let open = async {
        let mut listener = PgListener::connect(url).await?;
        listener.listen(&wire.topic).await?;
        let speaker = PgConnection::connect(url).await?;
        Ok::<_, sqlx::Error>((listener, speaker))
    };
    let (mut listener, mut speaker) =
        timeout(CONNECT_WITHIN, open).await.map_err(|_| BusError::Silent)?.map_err(BusError::of)?;
    wire.is_up();
    loop {
        tokio::select! {
            heard = listener.try_recv() => match heard.map_err(BusError::of)? {
                Some(notification) => wire.heard(notification.payload().as_bytes()),
                // It reconnected by itself; what was said meanwhile is lost.
                None => return Err(BusError::Closed),
            },
            head = wire.next() => {
                let payload = String::from_utf8(head?.encode()).map_err(BusError::of)?;
                let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(wire.topic.clone()).bind(payload);
                in_time(speaker.execute(notify)).await?;
            }
        }
    }
}
