//! Which transport carries the messages of each kind of notifier. To add a kind: its settings in `config`, a module beside this with
//! its [`Transport`](crate::Transport), and an arm here.

use std::sync::Arc;

use greenroom_config::mask::SharedMasks;
use greenroom_config::{Notifier, NotifierKind};
use greenroom_data::{Control, ListenerState, Ro};
use greenroom_runtime::Supervisor;

use crate::commit_status::CommitStatusTransport;
use crate::layer::AboutFarm;
use crate::mail::MailTransport;
use crate::transport::{Farm, MakeTransport, Transport};
use crate::webhook::WebhookTransport;

/// What a transport may stand on.
#[derive(Clone)]
#[allow(dead_code, reason = "kinds use what they need")]
pub(crate) struct Context {
    /// The notifier's name.
    pub name: String,
    /// Its settings.
    pub notifier: Notifier,
    /// Who speaks.
    pub farm: Arc<Farm>,
    /// Reads and follows.
    pub ro: Ro,
    /// For commands.
    pub control: Control,
    /// What this kind keeps for itself.
    pub own_state: ListenerState,
    /// What must not be told.
    pub masks: SharedMasks,
    /// What commands need to know.
    pub about: Arc<dyn AboutFarm>,
    /// Above the notifier; actors that the transport needs, such as a connection, live here too and end with it.
    pub supervisor: Supervisor,
}

/// What makes the transport at each birth.
pub(crate) fn transport(context: Context) -> MakeTransport {
    match context.notifier.kind.clone() {
        NotifierKind::Mail(mail) => {
            let (ro, masks) = (context.ro.clone(), context.masks.clone());
            Arc::new(move || {
                let transport = MailTransport::new(mail.clone(), Some(ro.clone()))?;
                Ok(boxed(transport.masked(masks.clone())))
            })
        }
        NotifierKind::Webhook(webhook) => {
            let timeout = context.notifier.options.timeout.get();
            Arc::new(move || Ok(boxed(WebhookTransport::new(webhook.clone(), timeout)?)))
        }
        NotifierKind::Irc(irc) => crate::irc::start(&context, &irc),
        NotifierKind::GithubStatus(_) | NotifierKind::GitlabStatus(_) | NotifierKind::GiteaStatus(_) => {
            let (ro, timeout) = (context.ro.clone(), context.notifier.options.timeout.get());
            let kind = context.notifier.kind.clone();
            Arc::new(move || Ok(boxed(CommitStatusTransport::new(&kind, Some(ro.clone()), timeout)?)))
        }
    }
}

fn boxed(transport: impl Transport) -> Box<dyn Transport> {
    Box::new(transport)
}
