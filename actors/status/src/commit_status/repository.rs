//! Which repository of a forge a URL means.

use greenroom_config::is_repository;

/// A repository as its URL says it.
#[derive(Debug, PartialEq)]
pub(super) struct Place<'a> {
    /// The forge's host, without port.
    pub host: &'a str,
    /// The path on it, without `.git` and slashes at its ends.
    pub path: &'a str,
}

/// Takes the URL of a clone apart: `https://host/owner/name.git`, `ssh://git@host:22/owner/name`, `git@host:owner/name.git`.
pub(super) fn place_of(url: &str) -> Option<Place<'_>> {
    let (authority, path) = match url.split_once("://") {
        Some(("http" | "https" | "ssh" | "git" | "git+ssh", rest)) => rest.split_once('/')?,
        Some(_) => return None,
        // An address as scp has them; a path of this machine has no colon, or a slash before it.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?,
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (!host.is_empty() && is_repository(path)).then_some(Place { host, path })
}

/// The repository's path on the forge whose API is at `base`, or why it is not one there. `hosts` are the names under which the forge
/// gives out clones; `root` is the path under which it runs, without slashes at its ends.
pub(super) fn path_on(hosts: &[String], root: &str, url: &str) -> Result<String, String> {
    let Some(Place { host, path }) = place_of(url) else {
        return Err(
            "the repository's URL names none of a forge; `repositories` can say which it is".to_owned()
        );
    };
    let same = |known: &String| {
        let host = host.strip_prefix("ssh.").or_else(|| host.strip_prefix("altssh.")).unwrap_or(host);
        host.eq_ignore_ascii_case(known)
    };
    if !hosts.iter().any(same) {
        return Err(format!("the repository is on {host}, not on {}", hosts.join(" or ")));
    }
    let path = path.strip_prefix(root).map_or(path, |it| it.trim_start_matches('/'));
    if path.contains('/') { Ok(path.to_owned()) } else { Err("the repository's URL has no owner".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_by_https_and_ssh_are_the_same_repository() {
        for url in [
            "https://github.com/octo/hello",
            "https://github.com/octo/hello.git",
            "https://github.com/octo/hello/",
            "https://ada@github.com/octo/hello.git",
            "http://github.com:8080/octo/hello.git",
            "ssh://git@github.com/octo/hello.git",
            "ssh://git@github.com:2222/octo/hello",
            "git@github.com:octo/hello.git",
            "github.com:octo/hello",
            "git://github.com/octo/hello.git",
        ] {
            assert_eq!(place_of(url), Some(Place { host: "github.com", path: "octo/hello" }), "{url}");
        }
        let nested = place_of("git@gitlab.com:group/sub/hello.git");
        assert_eq!(nested, Some(Place { host: "gitlab.com", path: "group/sub/hello" }));
    }

    #[test]
    fn what_is_on_no_forge_is_told() {
        for url in [
            "",
            "/srv/git/hello.git",
            "../hello",
            "file:///srv/hello/x.git",
            "https://github.com",
            "https://github.com/hello",
            "https://github.com/octo/../admin",
            "git@github.com:octo/he llo",
            "C:\\hello",
        ] {
            assert_eq!(place_of(url), None, "{url}");
        }
    }

    #[test]
    fn a_token_is_not_taken_to_another_forge() {
        let on = |url: &str| path_on(&["git.example.org".to_owned()], "", url);
        assert_eq!(on("https://git.example.org/octo/hello.git"), Ok("octo/hello".to_owned()));
        assert_eq!(on("git@GIT.example.org:octo/hello.git"), Ok("octo/hello".to_owned()));
        assert_eq!(on("ssh://git@ssh.git.example.org:443/octo/hello.git"), Ok("octo/hello".to_owned()));
        assert!(on("https://github.com/octo/hello.git").unwrap_err().contains("github.com"));
        assert!(on("https://git.example.org.evil.com/octo/hello.git").is_err());
        assert_eq!(
            path_on(&["h".to_owned()], "gitlab", "https://h/gitlab/group/hello.git"),
            Ok("group/hello".to_owned())
        );
    }
}
