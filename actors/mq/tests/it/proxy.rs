//! Between a master and its bus: passes bytes on, cuts connections, stalls, or is not there.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Pass,
    /// Ends every connection, and each new one at once.
    Cut,
    /// Takes connections and passes nothing on, either way.
    Stall,
}

pub struct Proxy {
    pub address: SocketAddr,
    mood: Arc<watch::Sender<Mood>>,
}

impl Proxy {
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let mood = Arc::new(watch::Sender::new(Mood::Pass));
        let (moods, server) = (mood.subscribe(), server.to_owned());
        actix_rt::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                actix_rt::spawn(pass(client, server.clone(), moods.clone()));
            }
        });
        Self { address, mood }
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn pass(mut client: TcpStream, server: String, mut mood: watch::Receiver<Mood>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    loop {
        let now = *mood.borrow_and_update();
        match now {
            Mood::Cut => return,
            Mood::Stall => {
                if mood.changed().await.is_err() {
                    return;
                }
            }
            Mood::Pass => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                changed = mood.changed() => if changed.is_err() { return },
            },
        }
    }
}
