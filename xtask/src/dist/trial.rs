//! The packages, tried: what is in them, and what they do to a Debian made for that.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Release, debian::Debian, folder, tree};
use crate::{
    command::{command, say},
    workspace,
};

const CONFFILE: &str = "/etc/tcpstall/tcpstall.toml";
/// What is different in Debian: places of files, by how they begin.
const ELSEWHERE: &[(&str, &str)] = &[(
    "/usr/share/zsh/site-functions/",
    "/usr/share/zsh/vendor-completions/",
)];
/// Beginnings of what Debian's package has besides, and of what it has not.
const MORE: &[&str] = &[
    "/usr/share/doc/tcpstall/changelog.Debian.gz",
    "/usr/share/lintian/",
];
const LESS: &[&str] = &["/usr/share/doc/tcpstall/LICENSE-"];
/// What a purge leaves behind: the user and the group, with the copies that are kept of the files that name them.
const STAYS: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/.pwd.lock",
];
/// The files and the scripts of the package for rpm.
pub(super) fn of_the_rpm(tree: &Path, package: &Path) -> Result<()> {
    say("Looking into the package for rpm");
    let query = |what: &[&str]| command("rpm").arg("-qp").args(what).arg(package).read();
    let listed: BTreeSet<String> = query(&["--list"])?.lines().map(str::to_owned).collect();
    same("the package for rpm", &listed, &expected(tree)?)?;
    let configuration = query(&["--configfiles"])?;
    ensure!(
        configuration.trim() == CONFFILE,
        "the package for rpm should keep a changed {CONFFILE} and nothing else, and keeps {configuration:?}"
    );
    let scripts = query(&["--scripts"])?;
    for (script, does) in [
        ("postinstall", "systemd-sysusers tcpstall.conf"),
        ("postinstall", "preset tcpstall.service"),
        (
            "preuninstall",
            "disable --now tcpstall-hooks.service tcpstall.service",
        ),
        ("postuninstall", "try-restart tcpstall.service"),
    ] {
        let text = scripts.split(&format!("{script} scriptlet")).nth(1);
        ensure!(
            text.is_some_and(|text| text
                .split("scriptlet")
                .next()
                .is_some_and(|it| it.contains(does))),
            "the package for rpm has no `{does}` in its script {script}:\n{scripts}"
        );
    }
    let needs = query(&["--requires"])?;
    for need in ["libc.so.6(GLIBC_", "libgcc_s.so.1(", "systemd >= 247"] {
        ensure!(
            needs.contains(need),
            "the package for rpm does not ask for {need}:\n{needs}"
        );
    }
    for script in ["post.sh", "preun.sh", "postun.sh"] {
        command("sh")
            .arg("-n")
            .arg(workspace::root().join("packaging/rpm").join(script))
            .run()?;
    }
    Ok(())
}

/// What lintian says of the package for Debian, and what it does when it is installed, upgraded, removed and purged.
pub(super) fn of_the_deb(release: &Release, package: &Path, newer: &Path) -> Result<()> {
    say("What Debian's own checks say");
    command("lintian")
        .args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"])
        .arg(package)
        .run()
        .context("lintian finds fault with the package; say why in packaging/deb/lintian-overrides, or mend it")?;
    let debian = Debian::make()?;
    let packages = [(package, "old.deb"), (newer, "new.deb")];
    debian.take_in(&packages)?;
    debian.lists_its_files(&folder().join("root"), package)?;
    say("Installed, upgraded, removed and purged, with systemd there and not running");
    let depends = command("dpkg-deb")
        .arg("--field")
        .arg(package)
        .arg("Depends")
        .read()?;
    debian.run(&format!(
        "apt-get satisfy --yes --quiet --no-install-recommends '{}'",
        depends.trim()
    ))?;
    let before = debian.files()?;
    debian.is_installed(release)?;
    debian.is_upgraded()?;
    debian.is_removed()?;
    debian.is_purged(&before)?;
    say("Again, as if the manager ran: what it is told");
    debian.tells_the_manager()?;
    debian.is_purged(&before)?;
    say("Again, without systemd");
    debian.run("apt-get install --yes --quiet --no-install-recommends systemd-standalone-sysusers systemd-standalone-tmpfiles")?;
    debian.run("test ! -e /usr/bin/systemctl && dpkg --install /trial/old.deb")?;
    debian.run("getent passwd tcpstall && test -d /run/tcpstall/gate")?;
    debian.run("dpkg --purge tcpstall")?;
    debian.run("test ! -e /etc/tcpstall && test ! -e /usr/bin/tcpstall")
}

impl Debian {
    /// What holds in it, each a test of the shell.
    fn holds(&self, when: &str, claims: &[&str]) -> Result<()> {
        for claim in claims {
            self.run(claim)
                .with_context(|| format!("{when} this should hold: {claim}"))?;
        }
        Ok(())
    }

    fn lists_its_files(&self, tree: &Path, package: &Path) -> Result<()> {
        let contents = command("dpkg-deb").arg("--contents").arg(package).read()?;
        let listed: BTreeSet<String> = contents
            .lines()
            .filter(|line| !line.starts_with('d'))
            .filter_map(|line| {
                Some(
                    line.split_whitespace()
                        .nth(5)?
                        .trim_start_matches('.')
                        .to_owned(),
                )
            })
            .filter(|file| !MORE.iter().any(|more| file.starts_with(more)))
            .collect();
        let expected = expected(tree)?
            .into_iter()
            .filter(|file| !LESS.iter().any(|less| file.starts_with(less)))
            .map(|file| {
                let moved = ELSEWHERE
                    .iter()
                    .find_map(|(from, to)| Some(format!("{to}{}", file.strip_prefix(from)?)));
                moved.unwrap_or(file)
            })
            .collect();
        same("the package for Debian", &listed, &expected)
    }

    fn is_installed(&self, release: &Release) -> Result<()> {
        self.run("apt-get install --yes --quiet --no-install-recommends /trial/old.deb")?;
        self.holds(
            "after installing",
            &[
                &format!("test \"$(tcpstall --version)\" = 'tcpstall {}'", release.version),
                &format!("tcpstall daemon --check | grep '^{CONFFILE} is valid'"),
                "getent passwd tcpstall | grep '/nologin$'",
                "getent group tcpstall",
                "test \"$(stat --format %U:%G:%a /run/tcpstall/gate)\" = tcpstall:tcpstall:755",
                "test \"$(stat --format %U:%G:%a /etc/tcpstall/tcpstall.toml)\" = root:root:644",
                "for page in 1/tcpstall.1 1/tcpstall-explain.1 5/tcpstall.toml.5; do gzip --test /usr/share/man/man$page.gz || exit 1; done",
                // As many as there are commands, and the program itself.
                "commands=$(tcpstall --help | sed '1,/^Commands:/d;/^$/,$d' | grep -c '^  [a-z]'); \
                 test \"$(ls /usr/share/man/man1/tcpstall* | wc -l)\" -eq $((commands + 1))",
                "test -L /etc/systemd/system/multi-user.target.wants/tcpstall.service",
                // Off until somebody wants it.
                "test ! -e /etc/systemd/system/multi-user.target.wants/tcpstall-hooks.service",
                "bash -n /usr/share/bash-completion/completions/tcpstall",
            ],
        )
    }

    fn is_upgraded(&self) -> Result<()> {
        self.run("sed --in-place 's/^#stall_after = .*/stall_after = \"5s\"/' /etc/tcpstall/tcpstall.toml")?;
        self.run("install --directory --owner=tcpstall --group=tcpstall /var/lib/tcpstall && echo '{}' > /var/lib/tcpstall/incidents.jsonl")?;
        self.run("echo 198.51.100.0/24 > /etc/tcpstall/provider-b.prefixes")?;
        self.run("systemctl enable tcpstall-hooks.service")?;
        self.run("apt-get install --yes --quiet --no-install-recommends /trial/new.deb")?;
        self.holds(
            "after an upgrade",
            &[
                "dpkg-query --show --showformat '${Version}' tcpstall | grep -- '-2$'",
                "grep '^stall_after = \"5s\"' /etc/tcpstall/tcpstall.toml",
                "tcpstall daemon --check",
                "test -L /etc/systemd/system/multi-user.target.wants/tcpstall.service",
                "test -L /etc/systemd/system/multi-user.target.wants/tcpstall-hooks.service",
            ],
        )
    }

    fn is_removed(&self) -> Result<()> {
        self.run("apt-get remove --yes --quiet tcpstall")?;
        self.holds(
            "after removing",
            &[
                "grep '^stall_after = \"5s\"' /etc/tcpstall/tcpstall.toml",
                "test -e /var/lib/tcpstall/incidents.jsonl",
                "test ! -e /usr/bin/tcpstall",
                "test ! -e /run/tcpstall",
                "getent passwd tcpstall",
            ],
        )
    }

    /// Nothing has come and nothing has gone but what stays.
    fn is_purged(&self, before: &BTreeSet<String>) -> Result<()> {
        self.run("apt-get purge --yes --quiet tcpstall")?;
        let after = self.files()?;
        let differ: Vec<_> = before
            .symmetric_difference(&after)
            .filter(|line| !STAYS.iter().any(|it| line.starts_with(it)))
            .cloned()
            .collect();
        ensure!(
            differ.is_empty(),
            "after a purge something of ours is left, or something of others is missing:\n{}",
            differ.join("\n")
        );
        self.holds(
            "after a purge",
            &[
                "getent passwd tcpstall",
                "! ls /var/lib/dpkg/info/tcpstall.* 2>/dev/null",
            ],
        )
    }

    /// One that writes down what it is told takes the place of the manager.
    fn tells_the_manager(&self) -> Result<()> {
        // Whether it is on, it says; whether it runs, it denies.
        let manager = "#!/bin/sh\\necho \"$*\" >> /trial/told\\n\
                       case \"$*\" in *is-enabled*) echo enabled;; *is-active*) exit 3;; esac\\n";
        self.run(&format!(
            "printf '{manager}' > /usr/local/sbin/systemctl && chmod 755 /usr/local/sbin/systemctl"
        ))?;
        self.run("mkdir --parents /run/systemd/system")?;
        for (does, told) in [
            ("dpkg --install /trial/old.deb", "start"),
            ("dpkg --install /trial/new.deb", "restart"),
            ("dpkg --remove tcpstall", "stop"),
        ] {
            self.run(&format!(": > /trial/told; {does}"))?;
            let heard = self.read("cat /trial/told")?;
            let acts: Vec<_> = heard.lines().filter_map(act).collect();
            ensure!(
                acts == [told],
                "`{does}` should tell the manager `{told}`, and told:\n{heard}"
            );
            ensure!(
                heard.contains("daemon-reload"),
                "`{does}` does not have the manager read its units:\n{heard}"
            );
        }
        self.run("rm /usr/local/sbin/systemctl && rmdir --parents --ignore-fail-on-non-empty /run/systemd/system")
    }
}

/// What a line of the manager's book asks of our unit, if that lets it run or ends it.
fn act(line: &str) -> Option<&str> {
    const ACTS: &[&str] = &["start", "stop", "restart", "try-restart", "reload"];
    let words = line.strip_suffix(" tcpstall.service")?;
    let verb = words.rsplit(' ').next()?;
    ACTS.contains(&verb).then_some(verb)
}

fn expected(tree: &Path) -> Result<BTreeSet<String>> {
    let files = tree::files(tree)?;
    Ok(files
        .iter()
        .map(|file| format!("/{}", file.display()))
        .collect())
}

fn same(what: &str, listed: &BTreeSet<String>, expected: &BTreeSet<String>) -> Result<()> {
    let show = |these: Vec<&String>| {
        these
            .into_iter()
            .map(|it| format!("\n  {it}"))
            .collect::<String>()
    };
    ensure!(
        listed == expected,
        "{what} lacks:{}\nand has besides:{}",
        show(expected.difference(listed).collect()),
        show(listed.difference(expected).collect())
    );
    Ok(())
}
