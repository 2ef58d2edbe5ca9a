//! Addresses that are not like others: what DESIGN.md "Security" cuts from plans or opens only by an entry of its own.

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::range_set::AddressSet;

/// A kind of address that is treated specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// `0.0.0.0` and `::`: no address of a host.
    Unspecified,
    /// `127.0.0.0/8` and `::1`: this machine, whichever it is.
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`: this link; cloud machines find their credentials there.
    LinkLocal,
    /// `224.0.0.0/4` and `ff00::/8`: groups of hosts.
    Multicast,
}

/// The classes with the networks they consist of. The third of each is the same IPv4 addresses behind NAT64's
/// well-known prefix (RFC 6052), where a translator may be in the way that takes them for what they embed.
const NETWORKS: [(AddressClass, [&str; 3]); 4] = [
    (AddressClass::Unspecified, ["0.0.0.0/32", "::/128", "64:ff9b::/128"]),
    (AddressClass::Loopback, ["127.0.0.0/8", "::1/128", "64:ff9b::7f00:0/104"]),
    (AddressClass::LinkLocal, ["169.254.0.0/16", "fe80::/10", "64:ff9b::a9fe:0/112"]),
    (AddressClass::Multicast, ["224.0.0.0/4", "ff00::/8", "64:ff9b::e000:0/100"]),
];

/// In the order of [`NETWORKS`].
static SETS: LazyLock<[AddressSet; 4]> = LazyLock::new(|| {
    NETWORKS.map(|(_, networks)| {
        let mut set = AddressSet::new();
        // That each text is a network is tested.
        for net in networks.iter().filter_map(|text| text.parse().ok()) {
            set.insert_net(net);
        }
        set
    })
});

impl AddressClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Unspecified, Self::Loopback, Self::LinkLocal, Self::Multicast];

    /// Every address of the class.
    pub fn addresses(self) -> &'static AddressSet {
        &SETS[self as usize]
    }
}

/// The class of an address, `None` for an ordinary one. An IPv4-mapped address has that of the IPv4 address.
pub fn class_of(address: IpAddr) -> Option<AddressClass> {
    AddressClass::ALL.into_iter().find(|class| class.addresses().contains(address))
}

#[cfg(test)]
mod tests {
    use super::{AddressClass, NETWORKS, class_of};

    #[test]
    fn every_class_is_made_of_its_networks() {
        for (place, (class, networks)) in NETWORKS.into_iter().enumerate() {
            assert_eq!(AddressClass::ALL[place], class);
            assert_eq!(class as usize, place);
            for text in networks {
                let net: ipnet::IpNet = text.parse().expect("a network");
                assert_eq!(net, net.trunc(), "{text} has host bits");
                assert_eq!(class_of(net.network()), Some(class));
                assert_eq!(class_of(net.broadcast()), Some(class));
            }
            assert_eq!(class.addresses().range_count(), 3);
        }
    }

    #[test]
    fn neighbours_of_a_class_are_ordinary() {
        let texts = "0.0.0.1 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 223.255.255.255 240.0.0.0 ::2 \
                     fe7f:: fec0:: feff:: 64:ff9b::c000:201 192.0.2.1 2001:db8::1";
        for text in texts.split_whitespace() {
            assert_eq!(class_of(text.parse().expect("an address")), None, "{text}");
        }
    }
}
