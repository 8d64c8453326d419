//! AMQP 0-9-1 (RabbitMQ): heads over one topic exchange, each master with a short queue of its own.

use std::convert::Infallible;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use tokio::time::timeout;

use crate::bus::{BusError, CONNECT_WITHIN, Wire, in_time};

const EXCHANGE: &str = "greenroom";
/// Heads that wait for a master that is slow; the oldest are dropped, since a newer one says it all.
const QUEUE: i32 = 100;

/// Serves one connection until it breaks. Reconnecting is the link's job.
pub(crate) async fn serve(url: &str, mut wire: Wire) -> Result<Infallible, BusError> {
    let properties = ConnectionProperties::default().with_connection_name("greenroom".into());
    let connection = timeout(CONNECT_WITHIN, Connection::connect(url, properties));
    let connection = connection.await.map_err(|_| BusError::Silent)?.map_err(BusError::of)?;
    let channel = in_time(connection.create_channel()).await?;
    let passing = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    in_time(channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, passing, FieldTable::default()))
        .await?;
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let mut bounds = FieldTable::default();
    bounds.insert("x-max-length".into(), AMQPValue::LongInt(QUEUE));
    let queue = in_time(channel.queue_declare("".into(), own, bounds)).await?;
    let name = queue.name().clone();
    let bind = QueueBindOptions::default();
    let topic = wire.topic.clone();
    in_time(channel.queue_bind(name.clone(), EXCHANGE.into(), topic.into(), bind, FieldTable::default()))
        .await?;
    let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consume = channel.basic_consume(name, "".into(), unacknowledged, FieldTable::default());
    let mut heads = in_time(consume).await?;
    wire.is_up();
    loop {
        tokio::select! {
            heard = heads.next() => match heard {
                Some(message) => wire.heard(&message.map_err(BusError::of)?.data),
                None => return Err(BusError::Closed),
            },
            head = wire.next() => {
                let (topic, body) = (wire.topic.clone(), head?.encode());
                let (plain, options) = (BasicProperties::default(), BasicPublishOptions::default());
                in_time(channel.basic_publish(EXCHANGE.into(), topic.into(), options, &body, plain)).await?;
            }
        }
    }
}
