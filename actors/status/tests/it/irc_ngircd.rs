//! Against a real server, ngircd.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use greenroom_model::*;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};

use crate::irc_fake::{Certificates, Peer};
use crate::irc_world::{PATIENCE, World};

/// A running ngircd; it ends with this.
struct Ngircd {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
    tls_port: u16,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Ngircd {
    async fn start(more: &str) -> Self {
        Self::start_named("irc.example.org", more).await
    }

    async fn start_named(name: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(dir.path());
        let (port, tls_port) = (free_port(), free_port());
        let text = format!(
            "[Global]\nName = {name}\nInfo = a test\nListen = 127.0.0.1\nPorts = {port}\nMotdPhrase = hello\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxNickLength = 20\nConnectRetry = 5\n\
             [Options]\nPAM = no\nIdent = no\nDNS = no\n[SSL]\nCertFile = {}\nKeyFile = {}\nPorts = {tls_port}\n\
             [Channel]\nName = #locked\nModes = nk sesame\n[Operator]\nName = oper\nPassword = pw\n{more}",
            certificates.server.display(),
            certificates.server_key.display(),
        );
        std::fs::write(dir.path().join("ngircd.conf"), text).unwrap();
        let child = launch(dir.path());
        let server = Self { child, dir, port, tls_port };
        server.await_open().await;
        server
    }

    async fn await_open(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(
                begun.elapsed() < PATIENCE,
                "ngircd does not open its port; run scripts/services setup\n{log}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn start_again(&mut self) {
        self.child = launch(self.dir.path());
        self.await_open().await;
    }
}

fn launch(dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    // Debian keeps it where users do not look
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new("ngircd")
        .env("PATH", &path)
        .args(["-n", "-f"])
        .arg(dir.join("ngircd.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("ngircd is missing: run scripts/services setup")
}

impl Drop for Ngircd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keys(port: u16, more: &str) -> String {
    format!(
        "server = '127.0.0.1:{port}'\ntls = false\nnick = 'bot'\nchannels = ['#builds']\nburst = 20\n\
         line-interval = '50ms'\nreconnect = {{ min = '20ms', max = '200ms' }}\n{more}"
    )
}

#[actix_rt::test]
async fn a_channel_hears_what_is_announced_and_is_answered() {
    let server = Ngircd::start("").await;
    let mut ada = Peer::come(server.port, "ada").await;
    ada.say("JOIN #builds").await;
    ada.expect_in(" 366 ").await;
    let world = World::start(&keys(server.port, "")).await;
    world.await_ready().await;
    let id = world.send_test().await;
    ada.expect_in("PRIVMSG #builds :This is a test message, asked for by the test.").await;
    let delivery = world.await_delivery(id, DeliveryState::Sent).await;
    assert_eq!((delivery.target.as_deref(), delivery.attempts), (Some("#builds"), 1));
    for (asked, answered) in [
        ("PRIVMSG #builds :bot: list builders", "ada: 1 builders: linux"),
        ("PRIVMSG #builds :bot, status", "0 builds running, 0 requests waiting, 0 of 1 workers connected"),
        ("PRIVMSG bot :last linux", "no build of linux has ended yet"),
        ("PRIVMSG bot :why linux", "no request waits for linux"),
    ] {
        ada.say(asked).await;
        ada.expect_in(answered).await;
    }
    // somebody else, since who asks very often is not answered
    let mut bob = Peer::come(server.port, "bob").await;
    for (asked, answered) in [
        ("PRIVMSG bot :\x02help\x02", "I understand help, list"),
        ("PRIVMSG bot :force build linux", "that needs a services account"),
        ("PRIVMSG bot :status \x0304nothing", "there is no builder nothing"),
    ] {
        bob.say(asked).await;
        bob.expect_in(answered).await;
    }
    world.end().await;
    ada.expect_in("QUIT").await;
}

#[actix_rt::test]
async fn tls_and_channels_with_keys() {
    let server = Ngircd::start("").await;
    let ca = server.dir.path().join("ca.pem");
    let text = keys(server.tls_port, &format!("tls-ca = '{}'", ca.display()))
        .replace("tls = false\n", "")
        .replace("['#builds']", "['#builds', { name = '#locked', key = 'sesame' }]");
    let world = World::start(&text).await;
    let joined = |it: &serde_json::Value| {
        it["channels"]["#locked"] == "joined" && it["channels"]["#builds"] == "joined"
    };
    world.await_connection("both channels", joined).await;
    world.end().await;
    let world = World::start(&text.replace("sesame", "wrong")).await;
    let refused =
        |it: &serde_json::Value| it["channels"]["#locked"].as_str().is_some_and(|it| it.contains("+k"));
    world.await_connection("a refusal", refused).await;
    assert_eq!(world.await_ready().await["channels"]["#builds"], "joined");
    world.end().await;
}

#[actix_rt::test]
async fn a_nick_in_use_is_taken_back_when_it_is_free() {
    let server = Ngircd::start("").await;
    let mut holder = Peer::come(server.port, "bot").await;
    holder.say("JOIN #builds").await;
    let world = World::start(&keys(server.port, "")).await;
    assert_eq!(world.await_ready().await["nick"], "bot_");
    holder.expect_in("JOIN").await;
    holder.say("QUIT :bye").await;
    world.await_connection("its nick", |it| it["nick"] == "bot").await;
    world.end().await;
}

#[actix_rt::test]
async fn what_happened_while_the_server_was_away_is_told_when_it_is_back() {
    let mut server = Ngircd::start("").await;
    let world = World::start(&keys(server.port, "")).await;
    world.await_ready().await;
    server.kill();
    let ids = [world.send_test().await, world.send_test().await];
    world.await_connection("the loss", |it| it["state"] == "waiting" || it["state"] == "connecting").await;
    assert_eq!(world.delivery(ids[0]).await.state, DeliveryState::Waiting);
    server.start_again().await;
    // Nobody was in the channel before the bot; what it said first is heard by its record alone.
    for id in ids {
        let delivery = world.await_delivery(id, DeliveryState::Sent).await;
        assert_eq!(delivery.target.as_deref(), Some("#builds"));
    }
    assert_eq!(world.await_ready().await["connected"], 2);
    world.end().await;
}

#[actix_rt::test]
async fn a_kill_and_a_kick_are_survived() {
    let server = Ngircd::start("").await;
    let mut oper = Peer::come(server.port, "oper").await;
    oper.say("JOIN #builds").await;
    oper.expect_in(" 366 ").await;
    oper.say("OPER oper pw").await;
    oper.expect_in(" 381 ").await;
    let world = World::start(&keys(server.port, "")).await;
    world.await_ready().await;
    oper.say("KILL bot :out").await;
    world.await_connection("another connection", |it| it["connected"] == 2 && it["state"] == "ready").await;
    let id = world.send_test().await;
    oper.expect_in("This is a test message").await;
    world.await_delivery(id, DeliveryState::Sent).await;
    oper.say("KICK #builds bot :out").await;
    world
        .await_connection("the kick", |it| {
            it["channels"]["#builds"].as_str().is_some_and(|it| it.starts_with("kicked by oper"))
        })
        .await;
    world.end().await;
}

#[actix_rt::test]
async fn a_netsplit_loses_nothing() {
    let link = |name: &str, host_port: Option<u16>| {
        let port = host_port.map(|port| format!("Host = 127.0.0.1\nPort = {port}\n")).unwrap_or_default();
        format!("[Server]\nName = {name}\n{port}MyPassword = link\nPeerPassword = link\n")
    };
    let near = Ngircd::start_named("near.example.org", &link("far.example.org", None)).await;
    let mut far = Ngircd::start_named("far.example.org", &link("near.example.org", Some(near.port))).await;
    let world = World::start(&keys(near.port, "")).await;
    world.await_ready().await;
    let mut ada = Peer::come(far.port, "ada").await;
    // the channel is one over both servers
    let begun = Instant::now();
    ada.say("JOIN #builds").await;
    loop {
        ada.say("NAMES #builds").await;
        if ada.expect_in(" 353 ").await.contains("bot") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(100)).await;
    }
    let id = world.send_test().await;
    ada.expect_in("This is a test message").await;
    world.await_delivery(id, DeliveryState::Sent).await;
    far.kill();
    // alone on our side of the split
    let id = world.send_test().await;
    world.await_delivery(id, DeliveryState::Sent).await;
    assert_eq!(world.await_ready().await["connected"], 1);
    world.end().await;
}

#[actix_rt::test]
async fn long_messages_arrive_whole() {
    let server = Ngircd::start("").await;
    let world = World::start(&keys(server.port, "")).await;
    let builders = (0..60).map(|n| write::ConfiguredBuilder {
        name: format!("übersetzer-mit-langem-namen-{n}"),
        ..Default::default()
    });
    let configuration = write::Configuration { builders: builders.collect(), ..Default::default() };
    world.data.rw().write(vec![Op::Configure(Box::new(configuration))]).await.unwrap();
    world.await_ready().await;
    let begun = Instant::now();
    while world.data.ro().hot().builders.size() < 60 {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
    let mut ada = Peer::come(server.port, "ada").await;
    ada.say("PRIVMSG bot :list 30 builders").await;
    let (mut whole, mut lines) = (String::new(), 0);
    while !whole.contains("more") && lines < 3 {
        let line = ada.expect_in("PRIVMSG ada").await;
        assert!(line.len() + 2 <= 512, "{}", line.len());
        whole.push_str(line.split_once(" :").unwrap().1);
        lines += 1;
    }
    assert!(lines > 1 && whole.contains("übersetzer-mit-langem-namen-20"), "{whole}");
    world.end().await;
}
