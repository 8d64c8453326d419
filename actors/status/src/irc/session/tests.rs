//! The conversation, line by line, without a socket.

use super::*;
use greenroom_config::{NotifierKind, load_text};

const LEAST: &str = "
[notifiers.team]
kind = 'irc'
server = 'irc.example.org'
nick = 'bot'
channels = ['#builds', { name = '#quiet', key = 'sesame' }]
";

/// A session and what it says.
struct Play {
    session: Session,
    now: Instant,
    rest: Vec<Effect>,
}

impl Play {
    fn new(more: &str) -> Self {
        let text = format!("{LEAST}{more}");
        let loaded = load_text(&text, std::path::Path::new("/")).unwrap_or_else(|e| panic!("{e}"));
        let NotifierKind::Irc(irc) = loaded.settings.notifiers["team"].kind.clone() else { panic!("irc") };
        let now = Instant::now();
        let channels = irc.channels.clone();
        let mut session = Session::new(Arc::new(irc), &channels, now);
        session.begin(now);
        Self { session, now, rest: Vec::new() }
    }

    /// Welcomed, with whatever the server supports, nothing said yet.
    fn ready(more: &str, supports: &str) -> Self {
        let mut play = Self::new(more);
        play.hear(":srv CAP * LS :account-tag account-notify extended-join");
        play.hear(":srv 001 bot :Welcome");
        play.hear(&format!(":srv 005 bot {supports} :are supported"));
        play.said();
        play
    }

    fn hear(&mut self, line: &str) {
        let message = line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        self.session.receive(message, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.session.tick(self.now);
        }
    }

    /// The lines said since the last call; other effects are kept.
    fn said(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for effect in self.session.effects() {
            match effect {
                Effect::Urgent(command) | Effect::Send(command) => lines.push(String::from(&command)),
                other => self.rest.push(other),
            }
        }
        lines
    }

    fn effects(&mut self) -> Vec<Effect> {
        let said = self.said();
        assert!(said.is_empty(), "{said:?}");
        std::mem::take(&mut self.rest)
    }

    fn heard(&mut self) -> Option<Heard> {
        self.said();
        std::mem::take(&mut self.rest).into_iter().find_map(|it| match it {
            Effect::Heard(heard) => Some(heard),
            _ => None,
        })
    }

    fn over(&mut self) -> Option<Over> {
        self.said();
        std::mem::take(&mut self.rest).into_iter().find_map(|it| match it {
            Effect::Over(over) => Some(over),
            _ => None,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn from_hello_to_the_channels() {
    let mut play = Play::new("password = 'gate'\nuser = 'green'\nreal-name = \"The\\nbot\"");
    assert_eq!(play.said(), ["CAP LS 302", "PASS gate", "NICK bot", "USER green 0 * :The bot"]);
    play.hear(":srv CAP * LS :multi-prefix");
    assert_eq!(play.said(), ["CAP END"]);
    play.hear("PING :123");
    assert_eq!(play.said(), ["PONG 123"]);
    play.hear(":srv 001 bot :Welcome");
    assert_eq!(play.said(), ["JOIN #builds", "JOIN #quiet sesame"]);
    assert!(!play.session.settled());
    play.hear(":bot!green@host.example.org JOIN :#builds");
    play.hear(":srv 475 bot #quiet :Cannot join channel (+k)");
    assert!(play.session.joined("#BUILDS") && !play.session.joined("#quiet"));
    assert!(play.session.settled());
    assert_eq!(play.session.prefix_bytes(), Some("bot!green@host.example.org".len()));
}

#[tokio::test(start_paused = true)]
async fn a_nick_in_use_is_replaced_and_taken_back() {
    let mut play = Play::new("");
    play.said();
    play.hear(":srv 433 * bot :Nickname is already in use");
    assert_eq!(play.said(), ["NICK bot_"]);
    play.hear(":srv 433 * bot_ :Nickname is already in use");
    assert_eq!(play.said(), ["NICK bot__"]);
    play.hear(":srv 432 * bot__ :Erroneous nickname");
    assert_eq!(play.said(), ["NICK bot3"]);
    play.hear(":srv 001 bot3 :Welcome");
    play.said();
    assert_eq!(play.session.nick(), "bot3");
    play.pass(61);
    assert_eq!(play.said().into_iter().filter(|it| it.starts_with("NICK")).count(), 1);
    play.hear(":srv 433 bot3 bot :Nickname is already in use");
    assert!(play.said().is_empty());
    // its holder leaves: no need to wait
    play.hear(":bot!x@y QUIT :bye");
    assert_eq!(play.said(), ["NICK bot"]);
    play.hear(":bot3!x@y NICK :bot");
    assert_eq!(play.session.nick(), "bot");
    play.pass(50);
    assert!(!play.said().iter().any(|it| it.starts_with("NICK")));
}

#[tokio::test(start_paused = true)]
async fn when_no_nick_is_free_it_gives_up_this_time() {
    let mut play = Play::new("");
    for _ in 0..=NICK_TRIES {
        play.hear(":srv 433 * bot :Nickname is already in use");
    }
    assert_eq!(play.over().map(|it| it.refused), Some(false));
}

#[tokio::test(start_paused = true)]
async fn nickserv_is_told_who_we_are_before_channels_are_joined() {
    let mut play = Play::new("account-password = 'pw'\nnickserv = 'NickServ@services.example.org'");
    play.said();
    play.hear(":srv 433 * bot :in use");
    play.hear(":srv 001 bot_ :Welcome");
    let said = play.said();
    assert_eq!(
        said[1..],
        [
            "PRIVMSG NickServ@services.example.org :IDENTIFY bot pw",
            "PRIVMSG NickServ@services.example.org :GHOST bot pw"
        ]
    );
    play.hear(":srv 900 bot_ bot!x@y bot :You are now logged in as bot");
    assert_eq!(play.said().len(), 2, "the channels");
}

#[tokio::test(start_paused = true)]
async fn services_that_are_away_hold_nothing_up_for_long() {
    let mut play = Play::new("account-password = 'pw'");
    play.hear(":srv 001 bot :Welcome");
    assert!(!play.said().iter().any(|it| it.starts_with("JOIN")));
    play.pass(10);
    assert_eq!(play.said().iter().filter(|it| it.starts_with("JOIN")).count(), 2);
    // a channel for the registered, until services come back
    play.hear(":srv 477 bot #builds :You need to be identified");
    play.said();
    play.hear(":bot MODE bot :+r");
    assert_eq!(play.said(), ["JOIN #builds"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_ends_the_connection() {
    let mut play = Play::new("sasl = 'plain'\naccount-password = 'pw'");
    play.said();
    play.hear(":srv CAP * LS * :account-tag");
    play.hear(":srv CAP * LS :sasl=PLAIN");
    assert_eq!(play.said(), ["CAP REQ :account-tag sasl"]);
    play.hear(":srv CAP bot ACK :account-tag sasl");
    assert_eq!(play.said(), ["AUTHENTICATE PLAIN"]);
    play.hear("AUTHENTICATE +");
    assert_eq!(play.said(), ["AUTHENTICATE AGJvdABwdw=="]);
    play.hear(":srv 904 bot :SASL authentication failed");
    let over = play.over().expect("over");
    assert!(over.refused && over.why.contains("failed"), "{over:?}");
    // after that nothing is heard
    play.hear("PING :x");
    assert!(play.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn silence_is_asked_about_and_then_taken_for_death() {
    let mut play = Play::ready("ping-interval = '30s'\nping-timeout = '20s'", "X");
    play.hear(":bot!b@h JOIN #builds");
    play.hear(":bot!b@h JOIN #quiet");
    play.said();
    play.pass(29);
    assert!(play.said().is_empty());
    play.pass(1);
    assert_eq!(play.said(), ["PING gr-1"]);
    play.hear(":srv PONG srv gr-1");
    play.pass(30);
    assert_eq!(play.said(), ["PING gr-2"]);
    play.pass(19);
    assert_eq!(play.over(), None);
    play.pass(1);
    assert_eq!(play.over(), Some(Over { why: "ping timeout".into(), refused: false }));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_welcomes_is_left() {
    let mut play = Play::new("");
    play.pass(60);
    assert!(play.over().is_some());
}

#[tokio::test(start_paused = true)]
async fn pongs_confirm_in_order_whatever_they_say() {
    let confirmed = |play: &mut Play| -> Vec<u64> {
        let effects = play.effects();
        effects
            .iter()
            .filter_map(|it| if let Effect::Confirmed(mark) = it { Some(*mark) } else { None })
            .collect()
    };
    let mut play = Play::ready("", "X");
    play.rest.clear();
    let now = play.now;
    for _ in 0..4 {
        play.session.mark(now);
    }
    play.hear(":srv PONG srv :gr-1");
    assert_eq!(confirmed(&mut play), [1]);
    play.hear(":srv PONG srv");
    assert_eq!(confirmed(&mut play), [2], "a server that repeats nothing");
    play.hear(":srv PONG gr-4");
    assert_eq!(confirmed(&mut play), [3, 4]);
    play.hear(":srv PONG gr-9");
    assert!(confirmed(&mut play).is_empty());
}

#[tokio::test(start_paused = true)]
async fn commands_are_what_is_addressed_to_us() {
    let mut play = Play::ready("", "X");
    for (line, text, reply_to) in [
        (":ada!a@h PRIVMSG #builds :bot: status linux", Some("status linux"), "#builds"),
        (":ada!a@h PRIVMSG #builds :BOT, help", Some("help"), "#builds"),
        (":ada!a@h PRIVMSG #builds :bot status", None, ""),
        (":ada!a@h PRIVMSG #builds :bottle: status", None, ""),
        (":ada!a@h PRIVMSG #builds :I said bot: status", None, ""),
        (":ada!a@h PRIVMSG bot :status", Some("status"), "ada"),
        (":ada!a@h PRIVMSG bot :bot: status", Some("status"), "ada"),
        (":ada!a@h PRIVMSG bot :\x02sta\x03tus", Some("status"), "ada"),
        (":ada!a@h PRIVMSG bot :\x01VERSION\x01", None, ""),
        (":ada!a@h NOTICE bot :status", None, ""),
        (":bot!a@h PRIVMSG bot :status", None, ""),
        (":irc.example.org PRIVMSG bot :status", None, ""),
    ] {
        play.hear(line);
        let heard = play.heard();
        assert_eq!(heard.as_ref().map(|it| it.text.as_str()), text, "{line}");
        if let Some(heard) = heard {
            assert_eq!(heard.reply_to, reply_to);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_come_from_the_server_and_never_from_the_nick() {
    let line = "PRIVMSG bot :force build x";
    // no capability was agreed on: a tag that anybody might send proves nothing
    let mut play = Play::ready("", "X");
    play.hear(&format!("@account=ada :ada!a@h {line}"));
    assert_eq!(play.heard().map(|it| it.account), Some(Account::Unknown));
    // agreed on
    play.hear(":srv CAP bot ACK :account-tag");
    play.hear(&format!("@account=ada :x!a@h {line}"));
    assert_eq!(play.heard().map(|it| it.account), Some(Account::Known(Some("ada".into()))));
    play.hear(&format!(":ada!a@h {line}"));
    assert_eq!(play.heard().map(|it| it.account), Some(Account::Known(None)));
    // taken back
    play.hear(":srv CAP bot DEL :account-tag");
    play.hear(&format!("@account=ada :x!a@h {line}"));
    assert_eq!(play.heard().map(|it| it.account), Some(Account::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_netsplit_makes_us_forget_who_was_who() {
    let account = |play: &mut Play| {
        play.hear(":ada!a@h PRIVMSG bot :stop");
        play.heard().map(|it| it.account)
    };
    let known = || Some(Account::Known(Some("ada".to_owned())));
    let mut play = Play::ready("", "WHOX CASEMAPPING=ascii");
    play.hear(":srv CAP bot ACK :account-notify extended-join");
    play.hear(":bot!b@h JOIN #builds bot :Greenroom");
    assert_eq!(play.said(), ["WHO #builds %tuhna,999"]);
    play.hear(":srv 354 bot 999 a h ada ada");
    assert_eq!(account(&mut play), known());
    play.hear(":ada!a@h QUIT :one.example.org two.example.org");
    assert_eq!(account(&mut play), Some(Account::Unknown));
    // somebody else comes back under that name
    play.hear(":ada!m@evil JOIN #builds * :Ada");
    assert_eq!(account(&mut play), Some(Account::Known(None)));
    play.hear(":ada!m@evil ACCOUNT ada");
    assert_eq!(account(&mut play), known());
    play.hear(":ada!m@evil ACCOUNT *");
    assert_eq!(account(&mut play), Some(Account::Known(None)));
    // the channel itself is held back for a while
    play.hear(":bot!b@h PART #builds");
    play.said();
    play.pass(15);
    assert_eq!(play.said(), ["JOIN #builds"]);
    play.hear(":srv 437 bot #builds :Channel is temporarily unavailable");
    play.pass(29);
    assert!(!play.said().contains(&"JOIN #builds".to_owned()));
    play.pass(1);
    assert!(play.said().contains(&"JOIN #builds".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn questions_about_accounts_end() {
    let mut play = Play::ready("", "WHOX");
    play.rest.clear();
    let ada = || Speaker { nick: "ada".into(), user: "a".into(), host: "h".into() };
    let now = play.now;
    let token = play.session.identify(ada(), now).expect("room");
    assert_eq!(play.said(), ["WHO ada %tuhna,1"]);
    play.hear(":srv 354 bot 1 a h ada ada-l");
    play.hear(":srv 315 bot ada :End of WHO");
    let effects = play.effects();
    assert!(
        matches!(&effects[..], [Effect::Identified(t, Some(account))] if *t == token && account == "ada-l"),
        "{effects:?}"
    );
    let token = play.session.identify(ada(), now).expect("room");
    play.said();
    play.pass(10);
    let effects = play.effects();
    assert!(matches!(&effects[..], [Effect::Identified(t, None)] if *t == token), "{effects:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kick_is_no_reason_to_stay_away_for_ever() {
    let mut play = Play::ready("", "X");
    play.hear(":bot!b@h JOIN #builds");
    play.hear(":srv 353 bot = #builds :bot ada");
    play.said();
    play.rest.clear();
    play.hear(":ada!a@h KICK #builds bot :out");
    let effects = play.effects();
    assert!(matches!(&effects[..], [Effect::Channel(name)] if name == "#builds"), "{effects:?}");
    assert!(!play.session.joined("#builds"));
    play.pass(15);
    assert_eq!(play.said(), ["JOIN #builds"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_delivered_is_told() {
    let mut play = Play::ready("", "X");
    play.hear(":bot!b@h JOIN #builds");
    play.said();
    play.rest.clear();
    play.hear(":srv 404 bot #builds :Cannot send to channel\x02");
    let effects = play.effects();
    let [Effect::Refused { target, why }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((target.as_str(), why.as_str()), ("#builds", "Cannot send to channel"));
    play.hear("ERROR :Closing Link");
    assert_eq!(play.over().map(|it| it.refused), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_bans_us_is_not_asked_again_at_once() {
    for line in [":srv 465 bot :You are banned", ":srv 464 bot :Password incorrect"] {
        let mut play = Play::new("");
        play.hear(line);
        assert_eq!(play.over().map(|it| it.refused), Some(true), "{line}");
    }
}
