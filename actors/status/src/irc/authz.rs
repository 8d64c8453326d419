//! Who may do what: services accounts, as `[notifiers.NAME.authz]` says.

use greenroom_config::{Irc, IrcAct};

/// Stands for everybody who is logged in to an account.
const ANYBODY: &str = "*";

/// Whether an account may do this. Accounts are compared without regard to case, as services keep them.
pub fn allows(config: &Irc, account: &str, act: IrcAct) -> bool {
    config.authz.iter().any(|(who, acts)| {
        let named = who.strip_prefix("account:").unwrap_or("");
        let fits = named == ANYBODY || named.eq_ignore_ascii_case(account);
        fits && (acts.contains(&act) || acts.contains(&IrcAct::All))
    })
}

/// The identity under which acts are recorded, such as `account:ada@irc/team`.
pub fn identity(account: &str, notifier: &str) -> String {
    format!("account:{account}@irc/{notifier}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_config::{NotifierKind, load_text};

    fn config(authz: &str) -> Irc {
        let text = format!(
            "[notifiers.team]\nkind = 'irc'\nserver = 'h'\nnick = 'bot'\nchannels = ['#c']\n[notifiers.team.authz]\n{authz}"
        );
        let loaded = load_text(&text, std::path::Path::new("/")).unwrap_or_else(|e| panic!("{e}"));
        match loaded.settings.notifiers["team"].kind.clone() {
            NotifierKind::Irc(irc) => irc,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_may_do_anything_unless_it_is_written() {
        let none = config("");
        assert!(!allows(&none, "ada", IrcAct::Force));
        let some = config("'account:Ada' = ['force']\n'account:bob' = ['all']\n'account:*' = ['rebuild']");
        assert!(allows(&some, "ada", IrcAct::Force) && allows(&some, "ADA", IrcAct::Force));
        assert!(!allows(&some, "ada", IrcAct::Stop));
        assert!(allows(&some, "bob", IrcAct::Leave));
        assert!(allows(&some, "eve", IrcAct::Rebuild) && !allows(&some, "eve", IrcAct::Force));
        assert!(!allows(&some, "account:ada", IrcAct::Force) && !allows(&some, "", IrcAct::Force));
    }

    #[test]
    fn identities_name_account_and_notifier() {
        assert_eq!(identity("ada", "team"), "account:ada@irc/team");
    }
}
