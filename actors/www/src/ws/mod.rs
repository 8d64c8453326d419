//! `/ws`: the feed. The socket is a thin pump ([`pump`]): it freezes, timers included, while its peer does not read.
//! Subscriptions, deadlines and the outbox live in a task beside it ([`session`]).

mod command;
mod limit;
mod pump;
mod session;

use std::cell::Cell;
use std::rc::Rc;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, WsResponseBuilder};

use crate::feed::Place;
use crate::reply::{Reply, retry_after_header};
use crate::www::Www;
use pump::Pump;

/// The largest frame, and the largest message of several frames.
const MAX_FRAME: usize = 1 << 20;

/// Answers `/ws`.
pub(crate) async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    www: web::Data<Www>,
) -> HttpResponse {
    if !www.configured().origins.may_act(request.headers()) {
        let reply = Reply::text(StatusCode::FORBIDDEN, "pages of other sites may not listen");
        return reply.respond(&request).await;
    }
    if let Err(error) = ws::handshake(&request) {
        let reply = Reply::text(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: {error}"));
        return reply.with(header::UPGRADE, "websocket").respond(&request).await;
    }
    let Some(place) = Place::take(&www) else {
        let reply = Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many open event sockets");
        return retry_after_header(reply, std::time::Duration::from_secs(30)).respond(&request).await;
    };
    let (session, pump) = session::Session::new(www.ro.clone(), www.stopping.subscribe());
    let too_large = Rc::new(Cell::new(false));
    let payload = limit::Limited::new(payload, too_large.clone());
    let pump = Pump::new(pump, too_large);
    let response = WsResponseBuilder::new(pump, &request, payload).frame_size(MAX_FRAME).start();
    match response {
        Ok(response) => {
            actix_web::rt::spawn(async move {
                let _place = place;
                session.run().await;
            });
            response
        }
        Err(error) => Reply::text(StatusCode::BAD_REQUEST, error.to_string()).respond(&request).await,
    }
}
