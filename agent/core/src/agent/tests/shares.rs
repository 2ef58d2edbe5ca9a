//! A share is kept, reached, and changed while the scan runs.

use super::*;

#[test]
fn a6_a_share_is_kept_in_every_tenth_of_a_second_of_a_scan_and_reached() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(500)))]);
    lab.late = ms(3);
    let began = lab.now;
    lab.grant(grants(SCAN, 64, 40, ProbeOptions::new(900, 8_192)));
    lab.run(Duration::from_secs(60));
    assert_eq!((lab.sent.len(), lab.targets_sent().len()), (2_560, 2_560), "each target once");
    assert!(lab.most_within(ms(100), 1, None) <= 50 + 5);
    assert!(lab.most_within(ms(1_000), 1, None) <= 500 + 5);
    let took = lab.sent.last().unwrap().0.since(began);
    assert!(took <= Duration::from_secs_f64(2_560.0 / 500.0 * 1.01), "the rate is not reached: {took:?}");
    assert_eq!(lab.reports.len(), 64);
}

#[test]
fn a6_leases_that_come_later_bring_no_burst() {
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(100)))]);
    for grant in grants(SCAN, 64, 10, ProbeOptions::new(900, 8_192)) {
        lab.grant(vec![grant]);
        lab.run(Duration::from_secs(1));
    }
    assert_eq!(lab.sent.len(), 640);
    assert!(lab.most_within(ms(100), 1, None) <= 10 + 1);
}

#[test]
fn a6_a_share_changes_while_the_scan_runs() {
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(1_000)))]);
    lab.grant(grants(SCAN, 64, 60, ProbeOptions::new(900, 8_192)));
    lab.run(Duration::from_secs(1));
    let first = lab.sent.len();
    assert!((990..=1_010).contains(&first), "{first}");
    lab.says(CoordinatorMessage::Control(control(SCAN, 2, Run::Go, Some(Rate::per_second(10)))));
    assert_eq!(lab.acknowledged, [(SCAN, 1), (SCAN, 2)]);
    lab.run(Duration::from_secs(2));
    let second = lab.sent.len() - first;
    assert!((19..=21).contains(&second), "{second}");
    lab.says(CoordinatorMessage::Control(control(SCAN, 3, Run::Go, Some(Rate::ZERO))));
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.sent.len(), first + second);
    lab.says(CoordinatorMessage::Control(control(SCAN, 4, Run::Go, None)));
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.sent.len(), 64 * 60);
}

#[test]
fn a6_syns_that_the_kernel_sends_again_are_charged_beforehand() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(300)))]);
    lab.grant(grants(SCAN, 64, 10, ProbeOptions::new(3_000, 8_192)));
    lab.run(Duration::from_secs(30));
    assert_eq!(lab.sent.len(), 640);
    assert!(lab.most_within(ms(1_000), 3, None) <= 300 + 3);
}

#[test]
fn leases_of_a_slow_scan_are_reported_one_after_the_other() {
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(50)))]);
    lab.grant(grants(SCAN, 4, 60, ProbeOptions::new(900, 8_192)));
    lab.run(ms(1_500));
    assert_eq!(lab.reports.len(), 1, "75 of 240 targets were asked, 60 of them a lease");
    lab.run(ms(4_000));
    assert_eq!(lab.reports.len(), 4);
}

#[test]
fn leases_of_a_scan_with_a_rate_are_reported_by_age() {
    // 16 hosts bear 64 probes a second each: so many leases take turns.
    for (rate, in_turn) in [(1_000, 1), (4_000, 4)] {
        let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(rate)))]);
        // 64 leases of 256 targets: if all took turns, none would be reported before nearly all was asked.
        lab.grant(grants(SCAN, 1_024, 16, ProbeOptions::new(900, 8_192)));
        lab.run(ms(1_000));
        let asked = lab.sent.len();
        assert!(lab.reports.len() + in_turn >= asked / 256, "{rate}: {} reports of {asked}", lab.reports.len());
        let epochs: Vec<_> = lab.reports.iter().map(|report| report.epoch).collect();
        let within_a_turn = epochs
            .chunks(in_turn)
            .all(|turn| turn.iter().all(|epoch| epoch.get() / in_turn as u64 == turn[0].get() / in_turn as u64));
        assert!(within_a_turn, "{rate}: {epochs:?}");
    }
}

#[test]
fn a6_a_slow_scan_does_not_hold_up_another_and_claims_little() {
    let slow = control(SCAN, 1, Run::Go, Some(Rate::from_micros(500_000)));
    let lab = Lab::new(quick, vec![slow.clone()]);
    let claim = lab.claims.last();
    assert!(claim.is_none_or(|claim| claim.targets <= 2 && claim.targets_each == 1), "{claim:?}");
    let mut lab = Lab::new(quick, vec![slow, control(OTHER, 1, Run::Go, None)]);
    let options = ProbeOptions::new(900, 8_192);
    lab.grant(grants(SCAN, 64, 1, options));
    lab.grant(grants(OTHER, 64, 20, options));
    lab.run(Duration::from_secs(3));
    let of = |base: u64| lab.sent.iter().filter(|(_, probe)| (probe.id.epoch.get() >= 1_000_000) == (base > 0)).count();
    assert_eq!((of(0), of(1)), (2, 64 * 20));
}

#[test]
fn who_is_asked_for_something_back_claims_by_its_speed_of_now() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(2_000)))]);
    // Two in flight, each overdue after 300 ms: seven a second.
    let grant = grants(SCAN, 1, 1_000, ProbeOptions::new(900, 2)).remove(0);
    lab.grant(vec![grant.clone()]);
    lab.run(Duration::from_secs(10));
    let claimed = lab.claims.len();
    lab.says(CoordinatorMessage::GiveBack { epoch: grant.epoch });
    lab.run(Duration::from_secs(2));
    let claims = &lab.claims[claimed..];
    assert!(claims.len() == 1 && claims[0].targets <= 30 && claims[0].targets_each == 16, "{claims:?}");
}
