//! PURE. Which upstream a connection belongs to.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::Rule,
    model::{IfIndex, Interface, NetnsId, NextHop, Sample},
};

/// Interfaces by namespace and index.
pub type Interfaces = BTreeMap<(NetnsId, IfIndex), Interface>;

/// Name of the upstream of a connection.
///
/// In order:
/// 1. the first rule of which everything given matches
/// 2. without a known next hop: none
/// 3. the interface's alias
/// 4. `GATEWAY%INTERFACE`, or `INTERFACE` when the destination is on the link
pub fn upstream(
    sample: &Sample,
    next_hop: Option<NextHop>,
    rules: &[Rule],
    interfaces: &Interfaces,
) -> Option<Arc<str>> {
    rules
        .iter()
        .find(|rule| matches_hop(rule, next_hop, interfaces) && matches_sample(rule, sample))
        .map(|rule| Arc::from(rule.name.as_str()))
        .or_else(|| next_hop.map(|hop| discovered(hop, interfaces)))
}

/// Name of the upstream under which a sweep's counts of a next hop are shown: as above, but only
/// rules that look at nothing but the next hop can decide.
pub fn upstream_of_hop(hop: NextHop, rules: &[Rule], interfaces: &Interfaces) -> Arc<str> {
    rules
        .iter()
        .find(|rule| looks_at_hop_only(rule) && matches_hop(rule, Some(hop), interfaces))
        .map_or_else(
            || discovered(hop, interfaces),
            |rule| Arc::from(rule.name.as_str()),
        )
}

/// Name of an interface, also of one that is gone.
pub fn interface_name(netns: NetnsId, index: IfIndex, interfaces: &Interfaces) -> String {
    interfaces.get(&(netns, index)).map_or_else(
        || format!("if{}", index.0),
        |interface| interface.name.clone(),
    )
}

fn discovered(hop: NextHop, interfaces: &Interfaces) -> Arc<str> {
    let alias = interfaces
        .get(&(hop.netns, hop.interface))
        .and_then(|interface| interface.alias.as_deref());
    if let Some(alias) = alias {
        return Arc::from(alias);
    }
    let name = interface_name(hop.netns, hop.interface, interfaces);
    match hop.gateway {
        Some(gateway) => Arc::from(format!("{gateway}%{name}")),
        None => Arc::from(name),
    }
}

fn looks_at_hop_only(rule: &Rule) -> bool {
    rule.source.is_none() && rule.mark.is_none() && rule.destinations.is_none()
}

fn matches_hop(rule: &Rule, hop: Option<NextHop>, interfaces: &Interfaces) -> bool {
    let interface = hop.and_then(|hop| interfaces.get(&(hop.netns, hop.interface)));
    given(&rule.gateway, |gateway| {
        hop.is_some_and(|hop| hop.gateway == Some(*gateway))
    }) && given(&rule.interface, |name| {
        interface.is_some_and(|it| it.name == *name)
    }) && given(&rule.vrf, |vrf| {
        interface.is_some_and(|it| it.vrf.as_ref() == Some(vrf))
    }) && given(&rule.netns, |netns| {
        hop.is_some_and(|hop| hop.netns.0 == *netns)
    })
}

fn matches_sample(rule: &Rule, sample: &Sample) -> bool {
    given(&rule.source, |source| source.contains(&sample.local.ip()))
        && given(&rule.mark, |mark| *mark == sample.mark)
        && given(&rule.destinations, |prefixes| {
            prefixes
                .iter()
                .any(|prefix| prefix.contains(&sample.remote.ip()))
        })
}

/// What is not given matches.
fn given<T>(wanted: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
    wanted.as_ref().is_none_or(test)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;
    use crate::engine::tests::samples;

    const NETNS: NetnsId = NetnsId(7);
    const WAN: IfIndex = IfIndex(3);

    fn hop(gateway: Option<&str>) -> NextHop {
        let gateway = gateway.map(|it| it.parse().unwrap());
        NextHop {
            netns: NETNS,
            interface: WAN,
            gateway,
        }
    }

    fn interfaces(alias: Option<&str>) -> Interfaces {
        let interface = Interface {
            name: "wan1".into(),
            alias: alias.map(Into::into),
            vrf: Some("red".into()),
            up: true,
            underlay: None,
        };
        Interfaces::from([((NETNS, WAN), interface)])
    }

    fn rule(change: impl Fn(&mut Rule)) -> Rule {
        let mut rule = Rule {
            name: "it".into(),
            ..Rule::default()
        };
        change(&mut rule);
        rule
    }

    fn sample() -> Sample {
        Sample {
            local: SocketAddr::from(([192, 0, 2, 9], 1)),
            remote: SocketAddr::from(([198, 51, 100, 7], 25)),
            mark: 5,
            ..samples::any()
        }
    }

    #[test]
    fn discovered_names() {
        let name = |gateway, interfaces: &Interfaces| {
            upstream(&sample(), Some(hop(gateway)), &[], interfaces)
                .unwrap()
                .to_string()
        };
        assert_eq!(
            name(Some("10.0.0.1"), &interfaces(Some("provider-a"))),
            "provider-a"
        );
        assert_eq!(name(Some("10.0.0.1"), &interfaces(None)), "10.0.0.1%wan1");
        assert_eq!(name(Some("fe80::1"), &interfaces(None)), "fe80::1%wan1");
        assert_eq!(name(None, &interfaces(None)), "wan1");
        assert_eq!(
            name(None, &Interfaces::new()),
            "if3",
            "the interface is gone"
        );
        assert_eq!(upstream(&sample(), None, &[], &interfaces(None)), None);
    }

    #[test]
    fn each_matcher_on_both_sides() {
        let matches = |change: &dyn Fn(&mut Rule), hop: Option<NextHop>| {
            let rules = [rule(change)];
            upstream(&sample(), hop, &rules, &interfaces(None)).as_deref() == Some("it")
        };
        let via = Some(hop(Some("10.0.0.1")));
        let gateway = |it: &str| -> Option<IpAddr> { Some(it.parse().unwrap()) };
        assert!(matches(&|it| it.gateway = gateway("10.0.0.1"), via));
        assert!(!matches(&|it| it.gateway = gateway("10.0.0.2"), via));
        assert!(!matches(
            &|it| it.gateway = gateway("10.0.0.1"),
            Some(hop(None))
        ));
        assert!(!matches(&|it| it.gateway = gateway("10.0.0.1"), None));
        assert!(matches(&|it| it.interface = Some("wan1".into()), via));
        assert!(!matches(&|it| it.interface = Some("wan2".into()), via));
        assert!(matches(&|it| it.vrf = Some("red".into()), via));
        assert!(!matches(&|it| it.vrf = Some("blue".into()), via));
        assert!(matches(&|it| it.netns = Some(7), via));
        assert!(!matches(&|it| it.netns = Some(8), via));
        assert!(matches(
            &|it| it.source = Some("192.0.2.0/24".parse().unwrap()),
            via
        ));
        assert!(!matches(
            &|it| it.source = Some("192.0.3.0/24".parse().unwrap()),
            via
        ));
        assert!(matches(&|it| it.mark = Some(5), via));
        assert!(!matches(&|it| it.mark = Some(6), via));
        let prefixes = |it: &[&str]| Some(it.iter().map(|it| it.parse().unwrap()).collect());
        assert!(matches(
            &|it| it.destinations = prefixes(&["10.0.0.0/8", "198.51.100.0/24"]),
            via
        ));
        assert!(!matches(
            &|it| it.destinations = prefixes(&["10.0.0.0/8"]),
            via
        ));
        assert!(
            matches(&|it| it.mark = Some(5), None),
            "a rule that does not ask for the next hop needs none"
        );
        assert!(
            !matches(&|it| (it.mark, it.netns) = (Some(5), Some(8)), via),
            "everything given must match"
        );
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let named = |name: &str, mark| Rule {
            name: name.into(),
            mark: Some(mark),
            ..Rule::default()
        };
        let rules = [named("other", 6), named("first", 5), named("second", 5)];
        let name = upstream(
            &sample(),
            Some(hop(None)),
            &rules,
            &interfaces(Some("alias")),
        );
        assert_eq!(name.as_deref(), Some("first"));
    }

    #[test]
    fn counts_are_shown_under_rules_that_need_nothing_but_the_next_hop() {
        let by_mark = Rule {
            name: "marked".into(),
            mark: Some(5),
            ..Rule::default()
        };
        let by_name = rule(|it| it.interface = Some("wan1".into()));
        let name =
            |rules: &[Rule]| upstream_of_hop(hop(None), rules, &interfaces(None)).to_string();
        assert_eq!(name(&[by_mark.clone(), by_name]), "it");
        assert_eq!(name(&[by_mark]), "wan1");
    }
}
