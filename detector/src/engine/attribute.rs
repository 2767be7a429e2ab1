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
        .map_or_else(|| discovered(hop, interfaces), |rule| Arc::from(rule.name.as_str()))
}

/// Name of an interface, also of one that is gone.
pub fn interface_name(netns: NetnsId, index: IfIndex, interfaces: &Interfaces) -> String {
    interfaces
        .get(&(netns, index))
        .map_or_else(|| format!("if{}", index.0), |interface| interface.name.clone())
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
    given(&rule.gateway, |gateway| hop.is_some_and(|hop| hop.gateway == Some(*gateway)))
        && given(&rule.interface, |name| interface.is_some_and(|it| it.name == *name))
        && given(&rule.vrf, |vrf| {
            interface.is_some_and(|it| it.vrf.as_ref() == Some(vrf))
        })
        && given(&rule.netns, |netns| hop.is_some_and(|hop| hop.netns.0 == *netns))
}

fn matches_sample(rule: &Rule, sample: &Sample) -> bool {
    given(&rule.source, |source| source.contains(&sample.local.ip()))
        && given(&rule.mark, |mark| *mark == sample.mark)
        && given(&rule.destinations, |prefixes| {
            prefixes.iter().any(|prefix| prefix.contains(&sample.remote.ip()))
        })
}

/// What is not given matches.
fn given<T>(wanted: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
    wanted.as_ref().is_none_or(test)
}
