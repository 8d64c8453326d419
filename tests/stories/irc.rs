//! A team on IRC: what it hears of its builds, and what of that when the master or the server goes away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{FAILURE, Farm, IrcServer, Plan, Reader, SUCCESS, eventually, patience};

/// How long the server is away: a real minute.
const AWAY: Duration = Duration::from_secs(60);

const BUILDERS: &str = "
[workers.w1]
password = 'pw'
max-builds = 4
[schedulers.force]
kind = 'force'
builders = '*'
parameters = [{ name = 'code' }]
";

fn builder(name: &str) -> String {
    format!(
        "[builders.{name}]\n[[builders.{name}.steps]]\nname = 'test'\n\
         run = 'echo starting; echo \"error: the {name} is broken\"; exit ${{{{ prop.code }}}}'\n"
    )
}

fn plan(port: u16) -> Plan {
    let names = ["linux", "windows", "plan9"];
    let builders: String = names.iter().map(|it| builder(it)).collect();
    Plan::new(&format!(
        "{BUILDERS}{builders}
[notifiers.team]
kind = 'irc'
server = '127.0.0.1:{port}'
tls = false
nick = 'bot'
channels = ['#builds']
modes = ['failing', 'change']
line-interval = '100ms'
ping-interval = '2s'
ping-timeout = '3s'
reconnect = {{ min = '200ms', max = '2s' }}
"
    ))
}

fn deliveries(farm: &Farm) -> Vec<Value> {
    farm.rest().list("notifiers/team/deliveries")
}

fn sent(farm: &Farm) -> usize {
    deliveries(farm).iter().filter(|it| it["state"] == "sent").count()
}

fn await_bot(farm: &Farm) {
    patience(Duration::from_secs(40), "the bot in its channel", || {
        let bot = farm.actor("irc/team")?;
        (bot["observed"]["channels"]["#builds"] == "joined").then_some(())
    });
}

#[test]
fn a_team_hears_of_a_failure_and_of_its_repair() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = IrcServer::start(dir.path());
    let mut ada = Reader::come(server.port, "ada", "#builds");
    let mut farm = plan(server.port).lay_out();
    farm.start();
    let _w1 = farm.agent("w1");
    await_bot(&farm);
    let failed = farm.force("linux", &json!({"code": "1"}));
    farm.expect_build(failed, FAILURE);
    let line = ada.expect("linux #1");
    for part in
        ["PRIVMSG #builds :", "failure", "step test: error: the linux is broken", "/builders/linux/builds/1"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
    let repaired = farm.force("linux", &json!({"code": "0"}));
    farm.expect_build(repaired, SUCCESS);
    let line = ada.expect("linux #2");
    assert!(line.contains("success (failure before)"), "{line}");
    eventually("both recorded as sent", || (sent(&farm) == 2).then_some(()));
    assert!(deliveries(&farm).iter().all(|it| it["target"] == "#builds"), "{:?}", deliveries(&farm));
    ada.say("PRIVMSG #builds :bot: last linux");
    ada.expect("ada: linux #2 success");
    ada.say("PRIVMSG #builds :bot: force build linux");
    ada.expect("that needs a services account");
}

#[test]
fn a_master_that_dies_while_it_tells_tells_at_most_once_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = IrcServer::start(dir.path());
    let ada = Reader::come(server.port, "ada", "#builds");
    let mut farm = plan(server.port).lay_out();
    farm.start();
    let _w1 = farm.agent("w1");
    for (n, name) in ["linux", "windows", "plan9"].into_iter().enumerate() {
        await_bot(&farm);
        let failed = farm.force(name, &json!({"code": "1"}));
        // killed as soon as it is heard, before or after that was recorded
        ada.expect(&format!("{name} #1"));
        farm.kill_master();
        farm.start();
        farm.await_worker("w1");
        farm.await_request(failed);
        patience(Duration::from_secs(60), "the record", || (sent(&farm) > n).then_some(()));
        let heard = ada.all(&format!("{name} #1")).len();
        assert!((1..=2).contains(&heard), "{name}: told {heard} times");
    }
}

#[test]
fn a_server_that_is_away_for_a_minute_costs_nothing_but_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = IrcServer::start(dir.path());
    let ada = Reader::come(server.port, "ada", "#builds");
    let mut farm = plan(server.port).lay_out();
    farm.start();
    let _w1 = farm.agent("w1");
    await_bot(&farm);
    server.hold();
    let away = std::time::Instant::now();
    for name in ["linux", "windows", "plan9"] {
        let failed = farm.force(name, &json!({"code": "1"}));
        // a server that is away delays no build
        farm.expect_build(failed, FAILURE);
    }
    patience(Duration::from_secs(30), "the loss of the connection", || {
        let bot = farm.actor("irc/team")?;
        bot["observed"]["last_error"].as_str().map(str::to_owned)
    });
    assert_eq!(sent(&farm), 0, "{:?}", deliveries(&farm));
    std::thread::sleep(AWAY.saturating_sub(away.elapsed()));
    server.resume();
    patience(Duration::from_secs(120), "all of it told", || (sent(&farm) == 3).then_some(()));
    for name in ["linux", "windows", "plan9"] {
        let heard = ada.all(&format!("{name} #1")).len();
        assert!((1..=2).contains(&heard), "{name}: told {heard} times");
    }
    let all = ada.all("PRIVMSG #builds").len();
    assert!(all <= 4, "at most one was repeated, but {all} messages came");
}
