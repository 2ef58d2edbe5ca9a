//! Names of targets: looked up once, here, before anything is sent. Agents never do.
//!
//! A name stands for its first address, IPv4 before IPv6 unless `-6`; for all with `--resolve-all`. As an exclusion it
//! stands for all of them always. A name that leads to this machine or this link is refused, unless it is `localhost`:
//! whoever controls a name must not choose what is scanned from inside.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use protocol::address::{AddressClass, class_of};
use protocol::quote::Quoted;
use protocol::range_set::AddressSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most addresses that a name may have. Real services have a dozen at most in one answer.
const ADDRESSES_MAX: usize = 64;

/// Why a name stands for no address that may be scanned.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Names cannot be looked up here.
    #[error("names cannot be looked up here ({0}): write the address of {1}")]
    NoResolver(io::Error, Quoted),
    /// It has no address, or nobody answered.
    #[error("the name {name} cannot be looked up, {why}: check it, or write the address")]
    NotFound {
        /// The name.
        name: Quoted,
        /// What the resolver said.
        why: Quoted,
    },
    /// It has too many addresses.
    #[error("the name {0} has more than {ADDRESSES_MAX} addresses: write those that you mean")]
    TooMany(Quoted),
    /// It leads to where names must not lead.
    #[error("the name {name} stands for {address}, which is {what}: if you mean that, write the address")]
    Refused {
        /// The name.
        name: Quoted,
        /// The address that it stands for.
        address: IpAddr,
        /// What that address is.
        what: &'static str,
    },
    /// The prefix is longer than the address.
    #[error("the name {name} stands for {address}, for which /{prefix} is too long")]
    Prefix {
        /// The name.
        name: Quoted,
        /// The address that it stands for.
        address: IpAddr,
        /// The prefix length.
        prefix: u8,
    },
}

/// What looks names up.
pub trait LookUp {
    /// All addresses of a name, in the order in which they came.
    ///
    /// # Errors
    /// If it cannot be looked up. A name without addresses may be an error or an empty list.
    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NameError>;
}

/// Looks names up as this system is set up to: its hosts file, then its name servers. Blocks, at most some ten seconds a
/// name; must not be used inside an asynchronous runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

impl LookUp for SystemNames {
    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let unable = |error| NameError::NoResolver(error, Quoted::new(name));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unable)?;
        runtime.block_on(async {
            let mut builder = TokioResolver::builder_tokio().map_err(|error| unable(io::Error::other(error)))?;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            let resolver = builder.build().map_err(|error| unable(io::Error::other(error)))?;
            match resolver.lookup_ip(name).await {
                Ok(found) => Ok(found.iter().take(ADDRESSES_MAX + 1).collect()),
                Err(error) => {
                    let why = match (error.is_nx_domain(), error.is_no_records_found()) {
                        (true, _) => "there is no such name".to_owned(),
                        (false, true) => "it has no address".to_owned(),
                        (false, false) => error.to_string(),
                    };
                    Err(NameError::NotFound { name: Quoted::new(name), why: Quoted::new(&why) })
                }
            }
        })
    }
}

/// What a name is typed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Target,
    Exclusion,
}

/// How a target's name is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// `-6`.
    pub(super) prefer_v6: bool,
    /// `--resolve-all`.
    pub(super) all: bool,
}

/// The networks that a name stands for, at least one; of a single address each unless a prefix was typed.
pub(super) fn resolve(
    name: &str,
    prefix: Option<u8>,
    role: Role,
    rules: Rules,
    names: &dyn LookUp,
) -> Result<Vec<ipnet::IpNet>, NameError> {
    let is_localhost = name.trim_end_matches('.') == "localhost";
    let mut addresses = if is_localhost {
        // RFC 6761 section 6.3: nobody needs to be asked.
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
    } else {
        names.look_up(name)?
    };
    if addresses.len() > ADDRESSES_MAX {
        return Err(NameError::TooMany(Quoted::new(name)));
    }
    addresses.iter_mut().for_each(|address| *address = address.to_canonical());
    // Stable: within a family the order stays.
    addresses.sort_by_key(|address| address.is_ipv4() == rules.prefer_v6);
    if role == Role::Target && !rules.all {
        addresses.truncate(1);
    }
    if addresses.is_empty() {
        let why = Quoted::new("it has no address");
        return Err(NameError::NotFound { name: Quoted::new(name), why });
    }
    addresses
        .into_iter()
        .map(|address| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.unwrap_or(longest);
            let net = ipnet::IpNet::new(address, prefix).map_err(|_| NameError::Prefix {
                name: Quoted::new(name),
                address,
                prefix,
            })?;
            if role == Role::Target && !is_localhost {
                check(name, address, net)?;
            }
            Ok(net)
        })
        .collect()
}

/// Refuses a network of which a part is this machine or this link, and addresses that no host has.
fn check(name: &str, address: IpAddr, net: ipnet::IpNet) -> Result<(), NameError> {
    let set = AddressSet::from(net);
    let touches = |class: AddressClass| !set.is_disjoint(class.addresses());
    let touched = [AddressClass::Loopback, AddressClass::LinkLocal].into_iter().find(|class| touches(*class));
    let what = match class_of(address).or(touched) {
        None => return Ok(()),
        Some(AddressClass::Loopback) => "this machine itself",
        Some(AddressClass::LinkLocal) => "a link-local address",
        Some(AddressClass::Unspecified) => "no host's address",
        Some(AddressClass::Multicast) => "a multicast address",
    };
    Err(NameError::Refused { name: Quoted::new(name), address, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answers(Vec<IpAddr>);

    impl LookUp for Answers {
        fn look_up(&self, _: &str) -> Result<Vec<IpAddr>, NameError> {
            Ok(self.0.clone())
        }
    }

    fn answers(addresses: &[&str]) -> Answers {
        Answers(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn resolved(typed: (&str, Option<u8>), role: Role, rules: Rules, found: &[&str]) -> Result<String, String> {
        let nets = resolve(typed.0, typed.1, role, rules, &answers(found)).map_err(|error| error.to_string())?;
        Ok(nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    const PLAIN: Rules = Rules { prefer_v6: false, all: false };

    #[test]
    fn a_name_is_its_first_ipv4_address_unless_told_otherwise() {
        let found = &["2001:db8::1", "192.0.2.2", "192.0.2.1", "2001:db8::2"];
        let name = ("www.example", None);
        assert_eq!(resolved(name, Role::Target, PLAIN, found).unwrap(), "192.0.2.2/32");
        let v6 = Rules { prefer_v6: true, all: false };
        assert_eq!(resolved(name, Role::Target, v6, found).unwrap(), "2001:db8::1/128");
        let all = "192.0.2.2/32 192.0.2.1/32 2001:db8::1/128 2001:db8::2/128";
        assert_eq!(resolved(name, Role::Target, Rules { prefer_v6: false, all: true }, found).unwrap(), all);
        assert_eq!(resolved(name, Role::Exclusion, PLAIN, found).unwrap(), all, "an exclusion leaves nothing out");
        assert_eq!(resolved(("www.example", Some(24)), Role::Target, PLAIN, found).unwrap(), "192.0.2.2/24");
        assert!(resolved(("www.example", Some(33)), Role::Target, PLAIN, found).is_err());
    }

    #[test]
    fn bad_input_80_a_name_that_leads_inside_is_refused() {
        let name = ("evil.example", None);
        let inside = [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
        ];
        for address in inside {
            let refused = resolved(name, Role::Target, PLAIN, &[address]).unwrap_err();
            assert!(refused.contains("write the address"), "{refused}");
        }
        let wide = resolved(("evil.example", Some(1)), Role::Target, PLAIN, &["126.0.0.1"]);
        assert!(wide.is_err(), "a network around it that holds loopback: {wide:?}");
        let all = Rules { prefer_v6: false, all: true };
        assert!(resolved(name, Role::Target, all, &["192.0.2.1", "127.0.0.1"]).is_err());
        assert_eq!(resolved(name, Role::Exclusion, PLAIN, &["127.0.0.1"]).unwrap(), "127.0.0.1/32");
    }

    #[test]
    fn bad_input_80_a_name_with_ten_thousand_records_is_refused() {
        let many = Answers((0..10_000).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + n))).collect());
        let refused = resolve("many.example", None, Role::Target, PLAIN, &many).unwrap_err();
        assert!(matches!(refused, NameError::TooMany(_)), "{refused}");
        assert!(resolved(("none.example", None), Role::Target, PLAIN, &[]).is_err());
    }

    #[test]
    fn localhost_is_this_machine_and_nobody_is_asked() {
        let evil = &["192.0.2.1"];
        assert_eq!(resolved(("localhost", None), Role::Target, PLAIN, evil).unwrap(), "127.0.0.1/32");
        assert_eq!(resolved(("localhost.", None), Role::Target, PLAIN, evil).unwrap(), "127.0.0.1/32");
        let v6 = Rules { prefer_v6: true, all: false };
        assert_eq!(resolved(("localhost", None), Role::Target, v6, evil).unwrap(), "::1/128");
    }
}
