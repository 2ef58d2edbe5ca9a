//! How records become columns, and back. What does not come back whole is [`Failure::Malformed`].

use super::failure::Failure;
use coordinator_core::store::{ScanRecord, ScanStatus};
use protocol::message::{Finding, PingMethod};
use protocol::plan::PlanParts;
use protocol::range_set::{AddressSet, RankedRanges};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A scan's record as it is stored: JSON without its ranges, the ranges, and how many of them are IPv4.
pub(super) struct StoredRecord {
    pub(super) json: String,
    pub(super) ranges: Vec<u8>,
    pub(super) ranges_v4: u32,
}

/// Numbers are stored as the signed ones of the same bits: SQLite knows no others. Their order is that of the unsigned ones below 2^63,
/// which no cohort and no epoch reaches.
pub(super) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// Back from [`signed`].
pub(super) const fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

pub(super) fn encode_record(record: &ScanRecord) -> Result<StoredRecord, Failure> {
    let plan = PlanParts { addresses: RankedRanges::default(), ..record.plan.clone() };
    let json = serde_json::to_string(&ScanRecord { plan, ..record.clone() }).map_err(|_| Failure::Malformed("scan"))?;
    let (mut ranges, mut ranges_v4) = (Vec::new(), 0);
    for (low, high) in record.plan.addresses.ranges() {
        ranges_v4 += u32::from(low.is_ipv4());
        for end in [low, high] {
            match end {
                IpAddr::V4(address) => ranges.extend(address.octets()),
                IpAddr::V6(address) => ranges.extend(address.octets()),
            }
        }
    }
    Ok(StoredRecord { json, ranges, ranges_v4 })
}

pub(super) fn decode_record(stored: &StoredRecord, status: &str) -> Result<ScanRecord, Failure> {
    let malformed = || Failure::Malformed("scan");
    let record: ScanRecord = serde_json::from_str(&stored.json).map_err(|_| malformed())?;
    let split = usize::try_from(stored.ranges_v4).ok().and_then(|count| count.checked_mul(8)).ok_or_else(malformed)?;
    let (v4, v6) = stored.ranges.split_at_checked(split).ok_or_else(malformed)?;
    let (v6, rest) = v6.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(malformed());
    }
    let v4 = v4.as_chunks::<8>().0.iter().map(|pair| {
        let both = u64::from_be_bytes(*pair);
        (IpAddr::from(Ipv4Addr::from((both >> 32) as u32)), IpAddr::from(Ipv4Addr::from(both as u32)))
    });
    let v6 = v6.iter().filter_map(|pair| {
        let end = |bytes: &[u8]| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)));
        Some((end(&pair[..16])?, end(&pair[16..])?))
    });
    let mut addresses = AddressSet::new();
    for (low, high) in v4.chain(v6) {
        addresses.insert_range(low, high).map_err(|_| malformed())?;
    }
    let addresses = RankedRanges::try_from(&addresses).map_err(|_| malformed())?;
    let plan = PlanParts { addresses, ..record.plan };
    Ok(ScanRecord { plan, status: decode_status(status)?, ..record })
}

fn decode_status(text: &str) -> Result<ScanStatus, Failure> {
    [ScanStatus::Running, ScanStatus::Partial, ScanStatus::Interrupted, ScanStatus::Done, ScanStatus::Cancelled]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or(Failure::Malformed("scan's status"))
}

pub(super) fn decode_ping_method(text: &str) -> Result<PingMethod, Failure> {
    [PingMethod::Icmp, PingMethod::Tcp]
        .into_iter()
        .find(|method| method.as_str() == text)
        .ok_or(Failure::Malformed("agent"))
}

pub(super) fn encode_findings(findings: &[Finding]) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::with_capacity(findings.len() * 5), 0);
    for finding in findings {
        // Wrapping, so that what a caller gives in no order comes back as it was: the audit is to see it.
        put(&mut bytes, finding.index.wrapping_sub(next));
        put(&mut bytes, finding.rtt_us);
        next = finding.index.wrapping_add(1);
    }
    bytes
}

pub(super) fn decode_findings(mut bytes: &[u8]) -> Result<Vec<Finding>, Failure> {
    let (mut findings, mut next) = (Vec::new(), 0u32);
    while !bytes.is_empty() {
        let index = next.wrapping_add(take(&mut bytes)?);
        findings.push(Finding { index, rtt_us: take(&mut bytes)? });
        next = index.wrapping_add(1);
    }
    Ok(findings)
}

/// LEB128: seven bits a byte, the lowest first, the high bit set on all but the last.
fn put(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u32, Failure> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Failure::Malformed("finding"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(number).map_err(|_| Failure::Malformed("finding"));
        }
    }
    Err(Failure::Malformed("finding"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::ScanId;
    use protocol::message::ProbeOptions;
    use protocol::plan::Slots;
    use protocol::rate::Rate;

    #[test]
    fn findings_come_back_in_any_order() {
        let finding = |index, rtt_us| Finding { index, rtt_us };
        for findings in [
            vec![],
            vec![finding(0, 0), finding(1, u32::MAX), finding(u32::MAX, 127), finding(3, 128)],
            vec![finding(7, 5), finding(7, 5)],
        ] {
            assert_eq!(decode_findings(&encode_findings(&findings)).expect("findings"), findings);
        }
        for torn in [&[0x80][..], &[0], &[0, 0xff, 0xff, 0xff, 0xff, 0x1f], &[0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
            assert!(decode_findings(torn).is_err(), "{torn:?}");
        }
    }

    #[test]
    fn a_record_of_more_ranges_than_a_message_carries_comes_back() {
        let mut addresses = AddressSet::new();
        for number in 0..70_000u32 {
            addresses.insert(Ipv4Addr::from(0x0a00_0000 + 2 * number).into());
        }
        let v6 = |last: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        addresses.insert_range(v6(3), v6(9)).expect("a range");
        let addresses = RankedRanges::try_from(&addresses).expect("a plan's addresses");
        let slots = Slots::new(true, [22, 80].into_iter().collect());
        let record = ScanRecord {
            id: ScanId::from_bytes([9; 16]),
            plan: PlanParts {
                addresses,
                slots,
                seed: u64::MAX,
                vantages: vec!["inside".to_owned().try_into().expect("a name")],
            },
            options: ProbeOptions::new(900, 64),
            rate: Rate::from_per_second(0.5),
            tries: Some(3),
            weight: 2,
            agent_wait_s: Some(7),
            status: ScanStatus::Partial,
            request: "portsweep \"x\"\n".into(),
        };
        let stored = encode_record(&record).expect("a stored record");
        assert_eq!(decode_record(&stored, "partial").expect("a record"), record);
        assert!(decode_record(&stored, "gone").is_err());
        let torn = StoredRecord { ranges: stored.ranges[1..].to_vec(), ..stored };
        assert!(decode_record(&torn, "partial").is_err());
    }
}
