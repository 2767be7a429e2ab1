//! What is packed, as far as it can be judged without packing it.

use std::{fs, path::Path};

use yaml_rust2::{Yaml, YamlLoader};

use super::third_party::linked_with;
use crate::workspace;

fn packaging(file: &str) -> String {
    let path = workspace::root().join("packaging").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of the manifest for Kubernetes, by their kind.
fn manifest(kind: &str) -> Yaml {
    let documents =
        YamlLoader::load_from_str(&packaging("kubernetes/daemonset.yaml")).expect("YAML");
    let mut those = documents
        .into_iter()
        .filter(|it| it["kind"].as_str() == Some(kind));
    those.next().unwrap_or_else(|| panic!("no {kind}"))
}

fn strings(list: &Yaml) -> Vec<&str> {
    list.as_vec()
        .into_iter()
        .flatten()
        .filter_map(Yaml::as_str)
        .collect()
}

#[test]
fn the_daemonset_has_what_kubernetes_asks_for() {
    let set = manifest("DaemonSet");
    assert_eq!(set["apiVersion"].as_str(), Some("apps/v1"));
    for kind in ["Namespace", "ConfigMap"] {
        let other = manifest(kind);
        assert_eq!(other["apiVersion"].as_str(), Some("v1"));
        assert_eq!(other["metadata"]["name"].as_str(), Some("tcpstall"));
    }
    assert_eq!(
        set["metadata"]["namespace"],
        manifest("Namespace")["metadata"]["name"]
    );
    let selected = &set["spec"]["selector"]["matchLabels"];
    assert!(selected.as_hash().is_some_and(|it| !it.is_empty()));
    assert_eq!(*selected, set["spec"]["template"]["metadata"]["labels"]);

    let pod = &set["spec"]["template"]["spec"];
    let [container] = pod["containers"].as_vec().expect("containers").as_slice() else {
        panic!("one container");
    };
    assert!(
        container["image"]
            .as_str()
            .is_some_and(|it| it.starts_with("registry.example/"))
    );
    let mounted = container["volumeMounts"].as_vec().expect("mounts");
    let volumes = pod["volumes"].as_vec().expect("volumes");
    assert_eq!(mounted.len(), volumes.len());
    for mount in mounted {
        assert!(
            mount["mountPath"]
                .as_str()
                .is_some_and(|it| it.starts_with('/'))
        );
        assert!(
            volumes.iter().any(|it| it["name"] == mount["name"]),
            "{mount:?}"
        );
    }
}

#[test]
fn the_daemonset_gives_two_capabilities_and_no_more() {
    let pod = &manifest("DaemonSet")["spec"]["template"]["spec"];
    let may = &pod["containers"][0]["securityContext"];
    assert_eq!(strings(&may["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(strings(&may["capabilities"]["add"]), ["BPF", "PERFMON"]);
    assert_eq!(may["privileged"].as_bool(), Some(false));
    assert_eq!(may["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(may["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(pod["hostNetwork"].as_bool(), Some(true));
    assert_eq!(pod["hostPID"].as_bool(), Some(true));
    // What the unit of systemd has.
    assert!(packaging("tcpstall.service").contains("AmbientCapabilities=CAP_BPF CAP_PERFMON\n"));
}

#[test]
fn the_user_the_folders_and_the_unit_agree() {
    let unit = packaging("tcpstall.service");
    assert!(unit.contains("User=tcpstall\nGroup=tcpstall\n"));
    assert!(
        unit.contains("RuntimeDirectory=tcpstall\n") && unit.contains("StateDirectory=tcpstall\n")
    );
    let entries = |file: &str| -> Vec<Vec<String>> {
        let text = packaging(file);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };
    let users = entries("sysusers.conf");
    assert!(
        matches!(users.as_slice(), [user] if user[..2] == ["u", "tcpstall"]),
        "{users:?}"
    );
    let folders = entries("tmpfiles.conf");
    let paths: Vec<_> = folders.iter().map(|it| it[1].as_str()).collect();
    assert_eq!(paths, ["/run/tcpstall", "/run/tcpstall/gate"]);
    assert!(
        folders
            .iter()
            .all(|it| it[0] == "d" && it[3..5] == ["tcpstall", "tcpstall"])
    );
}

#[test]
fn both_packages_have_all_that_is_laid_out() {
    let cargo =
        fs::read_to_string(workspace::root().join("detector/Cargo.toml")).expect("readable");
    for folder in [
        "usr/bin/tcpstall",
        "usr/lib/",
        "etc/tcpstall/tcpstall.toml",
        "usr/share/man/",
        "usr/share/tcpstall/",
    ] {
        let named = cargo.matches(&format!("target/dist/root/{folder}")).count();
        assert_eq!(named, 2, "{folder}: once for Debian, once for rpm");
    }
    for script in [
        "deb/postinst",
        "deb/prerm",
        "deb/postrm",
        "rpm/post.sh",
        "rpm/preun.sh",
        "rpm/postun.sh",
    ] {
        assert!(
            Path::new(&workspace::root().join("packaging").join(script)).is_file(),
            "{script}"
        );
    }
}

#[test]
fn notices_are_of_what_is_linked_in() {
    let package = |id: &str, source: &str, kind: &str| {
        format!(
            r#"{{"id":"{id}","name":"{id}","version":"1.0.0","source":{source},"targets":[{{"kind":["{kind}"]}}]}}"#
        )
    };
    let needs =
        |id: &str, kind: &str| format!(r#"{{"pkg":"{id}","dep_kinds":[{{"kind":{kind}}}]}}"#);
    let node =
        |id: &str, deps: &[String]| format!(r#"{{"id":"{id}","deps":[{}]}}"#, deps.join(","));
    let registry = r#""registry""#;
    let packages = [
        package("ours", "null", "bin"),
        package("part", "null", "lib"),
        package("linked", registry, "lib"),
        package("macro", registry, "proc-macro"),
        package("of-the-macro", registry, "lib"),
        package("of-tests", registry, "lib"),
    ];
    let nodes = [
        node(
            "ours",
            &[
                needs("part", "null"),
                needs("macro", "null"),
                needs("of-tests", r#""dev""#),
            ],
        ),
        node("part", &[needs("linked", "null")]),
        node("linked", &[]),
        node("macro", &[needs("of-the-macro", "null")]),
    ];
    let metadata = format!(
        r#"{{"packages":[{}],"resolve":{{"nodes":[{}]}}}}"#,
        packages.join(","),
        nodes.join(",")
    );
    let metadata = serde_json::from_str(&metadata).expect("JSON");
    let found = linked_with(&metadata, "ours").expect("understood");
    let names: Vec<_> = found.into_keys().map(|(name, _)| name).collect();
    assert_eq!(names, ["linked"]);
}
