//! Corners of the protocol, against a server that plays them.

use greenroom_model::*;
use tokio::time::{Duration, timeout};

use crate::irc_fake::{Certificates, FakeServer, Peer};
use crate::irc_world::{PATIENCE, World};

/// The least of a notifier at this port, with lines as fast as a test likes.
fn keys(port: u16, more: &str) -> String {
    format!(
        "server = '127.0.0.1:{port}'\nnick = 'bot'\nchannels = ['#builds']\nburst = 100\nline-interval = '5ms'\n\
         reconnect = {{ min = '10ms', max = '50ms' }}\n{more}"
    )
}

fn plain(port: u16, more: &str) -> String {
    keys(port, &format!("tls = false\n{more}"))
}

#[actix_rt::test]
async fn a_message_counts_as_sent_when_the_ping_after_it_is_answered() {
    let server = FakeServer::plain().await;
    let world = World::start(&plain(server.port, "")).await;
    let mut peer = server.accept().await;
    peer.welcome("", "X").await;
    let id = world.send_test().await;
    let said = peer.expect("PRIVMSG #builds").await;
    assert!(said.contains("This is a test message, asked for by the test."), "{said}");
    let ping = peer.expect("PING").await;
    assert_eq!(world.delivery(id).await.state, DeliveryState::Waiting);
    peer.say(&format!(":srv PONG srv :{}", &ping[5..])).await;
    let delivery = world.await_delivery(id, DeliveryState::Sent).await;
    assert_eq!(delivery.target.as_deref(), Some("#builds"));
    world.end().await;
}

#[actix_rt::test]
async fn what_was_not_confirmed_before_the_connection_broke_is_said_once_more() {
    let server = FakeServer::plain().await;
    let world = World::start(&plain(server.port, "")).await;
    let mut peer = server.accept().await;
    peer.welcome("", "X").await;
    let id = world.send_test().await;
    peer.expect("PRIVMSG #builds").await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.welcome("", "X").await;
    peer.expect("PRIVMSG #builds").await;
    peer.pong().await;
    let delivery = world.await_delivery(id, DeliveryState::Sent).await;
    assert_eq!(delivery.attempts, 2);
    world.end().await;
}

#[actix_rt::test]
async fn a_channel_that_takes_nothing_is_told_in_the_record() {
    let server = FakeServer::plain().await;
    let more = "channels = ['#builds', '#quiet']";
    let world = World::start(&plain(server.port, "").replace("channels = ['#builds']", more)).await;
    let mut peer = server.accept().await;
    peer.welcome("", "X").await;
    peer.expect("JOIN #quiet").await;
    peer.say(":srv 474 bot #quiet :Cannot join channel (+b)").await;
    let id = world.send_test().await;
    peer.expect("PRIVMSG #builds").await;
    peer.pong().await;
    let delivery = world.await_delivery(id, DeliveryState::Sent).await;
    assert_eq!(delivery.target.as_deref(), Some("#builds"));
    assert_eq!(delivery.reason.as_deref(), Some("not to #quiet: Cannot join channel (+b)"));
    // now the other one as well
    let id = world.send_test().await;
    peer.expect("PRIVMSG #builds").await;
    peer.say(":srv 404 bot #builds :Cannot send to channel").await;
    peer.pong().await;
    let begun = tokio::time::Instant::now();
    loop {
        let delivery = world.delivery(id).await;
        if let Some(reason) = delivery.reason.filter(|_| delivery.state == DeliveryState::Waiting) {
            assert!(reason.contains("#builds: Cannot send to channel"), "{reason}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.end().await;
}

#[actix_rt::test]
async fn sasl_plain_over_tls_of_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(dir.path());
    let server = FakeServer::tls(&certificates).await;
    let more = format!(
        "tls-ca = '{}'\nsasl = 'plain'\naccount = 'greenroom'\naccount-password = 'sesame'",
        certificates.ca.display()
    );
    let world = World::start(&keys(server.port, &more)).await;
    let mut peer = server.accept().await;
    assert!(!peer.certified);
    peer.expect("USER").await;
    peer.say(":srv CAP * LS :sasl=EXTERNAL,PLAIN account-tag").await;
    peer.expect("CAP REQ :account-tag sasl").await;
    peer.say(":srv CAP * ACK :account-tag sasl").await;
    peer.expect("AUTHENTICATE PLAIN").await;
    peer.say("AUTHENTICATE +").await;
    peer.expect("AUTHENTICATE AGdyZWVucm9vbQBzZXNhbWU=").await;
    peer.say(":srv 900 bot bot!b@h greenroom :You are now logged in").await;
    peer.say(":srv 903 bot :SASL authentication successful").await;
    peer.expect("CAP END").await;
    peer.say(":srv 001 bot :Welcome").await;
    peer.enter().await;
    let observed = world.await_ready().await;
    assert_eq!(observed["channels"]["#builds"], "joined");
    assert!(!observed.to_string().contains("sesame"));
    world.end().await;
}

#[actix_rt::test]
async fn sasl_external_shows_our_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(dir.path());
    let server = FakeServer::tls(&certificates).await;
    let (ca, client) = (certificates.ca.display(), certificates.client.display());
    let more = format!("tls-ca = '{ca}'\ntls-certificate = '{client}'\nsasl = 'external'");
    let world = World::start(&keys(server.port, &more)).await;
    let mut peer = server.accept().await;
    assert!(peer.certified);
    peer.expect("USER").await;
    peer.say(":srv CAP * LS :sasl").await;
    peer.expect("CAP REQ sasl").await;
    peer.say(":srv CAP * ACK :sasl").await;
    peer.expect("AUTHENTICATE EXTERNAL").await;
    peer.say("AUTHENTICATE +").await;
    peer.expect("AUTHENTICATE +").await;
    peer.say(":srv 903 bot :SASL authentication successful").await;
    peer.expect("CAP END").await;
    world.end().await;
}

#[actix_rt::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (own, stranger) = (Certificates::make(dir.path()), Certificates::make(other.path()));
    for more in [format!("tls-ca = '{}'", stranger.ca.display()), String::new()] {
        // One each: a first bot that tried again would stand before the second.
        let server = FakeServer::tls(&own).await;
        let world = World::start(&keys(server.port, &more)).await;
        assert!(server.accept_any().await.is_none(), "the handshake must fail");
        let said =
            |it: &serde_json::Value| it["last_error"].as_str().is_some_and(|it| it.starts_with("TLS:"));
        world.await_connection("a refusal", said).await;
        world.end().await;
    }
}

/// A bot in its channel, and ada who may force.
async fn with_ada(capabilities: &str, supports: &str) -> (World, FakeServer, Peer) {
    let server = FakeServer::plain().await;
    let world = World::start(&plain(
        server.port,
        "[notifiers.team.authz]\n'account:ada' = ['force', 'mute', 'join', 'leave']",
    ))
    .await;
    let mut peer = server.accept().await;
    peer.welcome(capabilities, supports).await;
    world.await_ready().await;
    (world, server, peer)
}

#[actix_rt::test]
async fn an_account_may_and_a_nick_may_not() {
    let (world, _server, mut peer) = with_ada("account-tag", "X").await;
    let mut acts = world.answer_acts().await;
    // the right nick without the account
    peer.say(":ada!a@h PRIVMSG #builds :bot: force build linux").await;
    let said = peer.expect("PRIVMSG #builds").await;
    assert!(said.contains("ada: that needs a services account"), "{said}");
    // another account
    peer.say("@account=eve :ada!a@h PRIVMSG #builds :bot: force build linux").await;
    let said = peer.expect("PRIVMSG #builds").await;
    assert!(said.contains("the account eve may not do that"), "{said}");
    // the account under another nick
    peer.say(
        "@account=Ada :x!a@h PRIVMSG #builds :bot, force build --branch=dev --prop target=all linux now",
    )
    .await;
    let said = peer.expect("PRIVMSG #builds").await;
    assert!(said.contains("x: a build of linux was asked for: request 17"), "{said}");
    let act = timeout(PATIENCE, acts.recv()).await.unwrap().unwrap();
    assert_eq!(act.identity, "account:Ada@irc/team");
    assert_eq!(act.target, ControlTarget::ForceScheduler("force".to_owned()));
    assert_eq!(act.params["branch"], "dev");
    assert_eq!((&act.params["target"], &act.params["reason"]), (&"all".into(), &"now".into()));
    // what that account may not
    peer.say("@account=ada :x!a@h PRIVMSG bot :stop build linux").await;
    let said = peer.expect("PRIVMSG x").await;
    assert!(said.contains("that needs a services account"), "nobody may stop: {said}");
    assert!(acts.try_recv().is_err(), "and nothing else was asked");
    world.end().await;
}

#[actix_rt::test]
async fn without_tags_the_server_is_asked_who_it_is() {
    let (world, _server, mut peer) = with_ada("", "WHOX").await;
    let mut acts = world.answer_acts().await;
    peer.say(":ada!a@h PRIVMSG bot :force build linux").await;
    let who = peer.expect("WHO ada %tuhna,").await;
    let token = who.rsplit(',').next().unwrap().to_owned();
    // somebody else has that nick by now
    peer.say(&format!(":srv 354 bot {token} m elsewhere ada ada")).await;
    peer.say(":srv 315 bot ada :End of WHO list").await;
    let said = peer.expect("PRIVMSG ada").await;
    assert!(said.contains("that needs a services account"), "{said}");
    peer.say(":ada!a@h PRIVMSG bot :force build linux").await;
    let who = peer.expect("WHO ada %tuhna,").await;
    let token = who.rsplit(',').next().unwrap().to_owned();
    peer.say(&format!(":srv 354 bot {token} a h ada ada")).await;
    peer.say(":srv 315 bot ada :End of WHO list").await;
    peer.expect("PRIVMSG ada :a build of linux was asked for").await;
    assert_eq!(acts.recv().await.unwrap().identity, "account:ada@irc/team");
    world.end().await;
}

#[actix_rt::test]
async fn joins_and_logins_tell_accounts_too() {
    let (world, _server, mut peer) = with_ada("account-notify extended-join", "WHOX").await;
    peer.expect("WHO #builds").await;
    peer.say(":ada!a@h JOIN #builds * :Ada").await;
    peer.say(":ada!a@h PRIVMSG #builds :bot: mute").await;
    assert!(peer.expect("PRIVMSG #builds").await.contains("needs a services account"));
    peer.say(":ada!a@h ACCOUNT ada").await;
    peer.say(":ada!a@h PRIVMSG #builds :bot: mute").await;
    assert!(peer.expect("PRIVMSG #builds").await.contains("quiet in #builds"));
    world.end().await;
}

#[actix_rt::test]
async fn wishes_are_kept_over_a_restart() {
    let (mut world, server, mut peer) = with_ada("account-tag", "X").await;
    peer.say(":bob!b@h PRIVMSG #builds :bot: notify on started recovery").await;
    peer.expect("PRIVMSG #builds :bob: told here: started").await;
    peer.say(":bob!b@h PRIVMSG #builds :bot: notify off started").await;
    let now = peer.expect("PRIVMSG #builds").await;
    assert!(!now.contains("started") && now.contains("recovery"), "{now}");
    peer.say("@account=ada :ada!a@h PRIVMSG #builds :bot: join #more").await;
    peer.enter().await;
    peer.say("@account=ada :ada!a@h PRIVMSG #builds :bot: mute").await;
    peer.expect("PRIVMSG #builds :ada: quiet").await;
    world.close().await;
    peer.expect("QUIT").await;
    world.open().await;
    let mut peer = server.accept().await;
    peer.welcome("account-tag", "X").await;
    peer.enter().await;
    world.await_connection("both channels", |it| it["channels"]["#more"] == "joined").await;
    peer.say(":bob!b@h PRIVMSG #builds :bot: notify list").await;
    let kept = peer.expect("PRIVMSG #builds").await;
    assert!(kept.contains("recovery") && !kept.contains("started"), "{kept}");
    assert!(kept.contains("muted here"), "{kept}");
    // quiet where it is muted, and not where it came to
    let id = world.send_test().await;
    let said = peer.expect("PRIVMSG").await;
    assert!(said.starts_with("PRIVMSG #more"), "{said}");
    peer.pong().await;
    assert_eq!(world.await_delivery(id, DeliveryState::Sent).await.target.as_deref(), Some("#more"));
    world.end().await;
}

#[actix_rt::test]
async fn long_answers_are_short_and_many_questions_are_few() {
    let (world, _server, mut peer) = with_ada("", "X").await;
    let rw = world.data.rw();
    let builders = (0..1_000).map(|n| write::ConfiguredBuilder {
        name: format!("builder-with-a-rather-long-name-{n}"),
        ..Default::default()
    });
    let configuration = write::Configuration { builders: builders.collect(), ..Default::default() };
    rw.write(vec![Op::Configure(Box::new(configuration))]).await.unwrap();
    let begun = tokio::time::Instant::now();
    while world.data.ro().hot().builders.size() < 1_000 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peer.say(":bob!b@h PRIVMSG bot :list all builders").await;
    peer.say(":bob!b@h PRIVMSG bot :version").await;
    let mut lines = Vec::new();
    loop {
        let line = timeout(PATIENCE, peer.line()).await.unwrap().unwrap();
        if line.contains(":Greenroom ") {
            break;
        }
        lines.push(line);
    }
    assert!(lines.len() <= 10, "{lines:?}");
    assert!(lines[0].contains("1001 builders") || lines[0].contains("1000 builders"), "{}", lines[0]);
    for line in &lines {
        assert!(format!(":bot!bot@host {line}\r\n").len() <= 512, "{line}");
    }
    // a robot that answers robots
    for _ in 0..50 {
        peer.say(":loop!l@h PRIVMSG bot :what?").await;
    }
    peer.say(":bob!b@h PRIVMSG bot :help help").await;
    let mut answers = 0;
    while !timeout(PATIENCE, peer.line()).await.unwrap().unwrap().contains("[COMMAND]") {
        answers += 1;
    }
    assert!((1..=6).contains(&answers), "{answers}");
    world.end().await;
}

#[actix_rt::test]
async fn a_server_that_floods_us_with_nonsense_is_survived() {
    let (world, _server, mut peer) = with_ada("", "X").await;
    peer.say(&"x".repeat(1_000_000)).await;
    peer.say(":\u{fffd} PRIVMSG").await;
    peer.say("@;;=; : : :").await;
    peer.say(":a MODE #builds +ooooo").await;
    peer.say(":srv CAP").await;
    peer.say(":srv 354 bot").await;
    peer.say(":srv 001").await;
    peer.say(":bob!b@h PRIVMSG bot :version").await;
    peer.expect("PRIVMSG bob :Greenroom").await;
    world.end().await;
}

#[actix_rt::test]
async fn what_flood_control_holds_back_for_long_is_still_said_once() {
    let server = FakeServer::plain().await;
    let text = plain(server.port, "timeout = '300ms'")
        .replace("['#builds']", "['#a', '#b', '#c', '#d']")
        .replace("burst = 100\nline-interval = '5ms'", "burst = 1\nline-interval = '200ms'");
    let world = World::start(&text).await;
    let mut peer = server.accept().await;
    peer.welcome("", "X").await;
    for _ in 0..3 {
        peer.enter().await;
    }
    world.await_ready().await;
    let id = world.send_test().await;
    let mut said = Vec::new();
    loop {
        let line = timeout(PATIENCE, peer.line()).await.unwrap().unwrap();
        if let Some(token) = line.strip_prefix("PING ") {
            peer.say(&format!(":srv PONG srv :{token}")).await;
            break;
        }
        said.push(line);
    }
    assert_eq!(said.len(), 4, "{said:?}");
    let delivery = world.await_delivery(id, DeliveryState::Sent).await;
    assert!(delivery.attempts > 1, "the attempts ended before flood control let all of it out");
    world.end().await;
}
