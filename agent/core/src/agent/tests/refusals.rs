//! What an agent says of a grant that it refused.

use super::*;

impl Lab {
    /// The hello on a new session.
    fn says_hello(&mut self) -> Hello {
        self.agent.handle_input(self.now, Input::Connected);
        let hello = std::iter::from_fn(|| self.agent.poll_output()).find_map(|output| match output {
            Output::Send(message) => match *message {
                AgentMessage::Hello(hello) => Some(hello),
                _ => None,
            },
            _ => None,
        });
        hello.expect("it says hello")
    }
}

#[test]
fn the_next_hello_says_which_grant_was_refused_and_why_until_it_is_heard() {
    for (hosts, reason) in [
        (4_200, "a grant covers 192.0.18.0, which the agent's allow-list does not hold"),
        (64, "a grant does not keep its bounds"),
    ] {
        let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, None)]);
        let grants = grants(SCAN, hosts, 1, ProbeOptions::new(900, 40));
        let outside = |grant: &&Grant| grant.cohort.addresses().ranges().any(|(first, _)| first >= addresses_end());
        let grant = match hosts {
            64 => Grant { pass: 0, ..grants[0].clone() },
            _ => (*grants.iter().filter(outside).min_by_key(|grant| grant.cohort.number()).unwrap()).clone(),
        };
        lab.grant(vec![grant.clone()]);
        assert_eq!((lab.redials, lab.sent.len()), (1, 0));
        let hello = lab.says_hello();
        let refused = hello.refused.expect("it says so");
        assert_eq!((refused.scan, refused.epoch), (SCAN, grant.epoch));
        if hosts == 64 {
            assert_eq!(refused.reason, reason);
        } else {
            assert!(refused.reason.starts_with("a grant covers 192.0.18."), "{refused:?}");
            assert!(refused.reason.ends_with(", which the agent's allow-list does not hold"), "{refused:?}");
        }
        // That hello was not answered.
        lab.input(Input::Disconnected);
        assert!(lab.says_hello().refused.is_some());
        lab.input(Input::Disconnected);
        lab.session(Vec::new(), vec![control(SCAN, 2, Run::Go, None)]);
        lab.input(Input::Disconnected);
        assert_eq!(lab.says_hello().refused, None);
    }
}

/// The first address that is not allowed.
fn addresses_end() -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc000_0200 + 4_096))
}
