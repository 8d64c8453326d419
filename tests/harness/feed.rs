//! `/ws`, as the page speaks it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::farm::Farm;

/// One connection to the feed.
pub struct Feed {
    runtime: Runtime,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Farm {
    /// Connects to the feed and listens to a path such as `builds/*/*`.
    #[track_caller]
    pub fn listen(&self, path: &str) -> Feed {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = format!("ws://127.0.0.1:{}/ws", self.port());
        let (socket, _) = runtime.block_on(connect_async(url)).expect("the feed");
        let mut feed = Feed { runtime, socket };
        feed.send(&json!({"cmd": "startConsuming", "path": path, "_id": 1}));
        let answer = feed.next().expect("an answer");
        assert_eq!(answer["code"], 200, "startConsuming: {answer}");
        feed
    }
}

impl Feed {
    fn send(&mut self, frame: &Value) {
        let frame = Message::text(frame.to_string());
        self.runtime.block_on(self.socket.send(frame)).expect("a frame is sent");
    }

    /// The next frame; none after ten seconds of silence.
    pub fn next(&mut self) -> Option<Value> {
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            loop {
                let next = tokio::time::timeout(Duration::from_secs(10), socket.next());
                match next.await.ok()?? {
                    Ok(Message::Text(text)) => return serde_json::from_str(&text).ok(),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        })
    }
}
