//! The maps of a scan that is stored and that nobody probes: as tiles of the API, and as a page all of whose links lead somewhere.

use super::contract_tests::{Answer, Ask, World, story};
use super::maps::{AddressTile, PortTile};
use std::collections::BTreeSet;

async fn get(world: &World, path: &str) -> Answer {
    let token = Some(world.local_token());
    world.ask(&Ask { method: "GET".into(), path: path.into(), token, ..Ask::default() }).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("text")
}

#[test]
fn tiles_hold_every_target_once() {
    // Nine addresses by 40 ports and ping.
    story(|world| async move {
        let id = world.submit().await;
        let tile = get(&world, &format!("/api/v1/scans/{id}/maps/addresses")).await;
        let tile: AddressTile = serde_json::from_slice(&tile.body).expect("a tile");
        assert_eq!((&*tile.prefix, tile.depth, tile.cells.len()), ("127.0.0.0/28", 2, 9));
        assert_eq!(tile.cells.iter().map(|cell| (cell.x, cell.y)).collect::<BTreeSet<_>>().len(), 9);
        assert!(tile.cells.iter().all(|cell| cell.says == "not-probed" && cell.targets.not_probed == 41));
        assert!(tile.cells.iter().all(|cell| cell.addresses.not_probed == 1 && cell.prefix.ends_with("/32")));
        let neighbours =
            tile.cells.windows(2).map(|pair| pair[0].x.abs_diff(pair[1].x) + pair[0].y.abs_diff(pair[1].y));
        assert!(neighbours.into_iter().all(|steps| steps == 1), "the curve goes from each cell to one beside it");
        let path = format!("/api/v1/scans/{id}/maps/ports?address=127.0.0.4-127.0.0.200&port=30-60000");
        let tile: PortTile = serde_json::from_slice(&get(&world, &path).await.body).expect("a tile");
        assert_eq!((tile.rows.len(), tile.columns.len(), tile.exact), (6, 12, true));
        assert_eq!(
            (&*tile.rows[0].addresses, &*tile.columns[0].ports, &*tile.columns[1].ports),
            ("127.0.0.4", "ping", "30")
        );
        assert_eq!(tile.cells.iter().map(|cell| cell.targets.not_probed).sum::<u64>(), 72);
    });
}

#[test]
fn bad_input_94_what_a_map_is_asked_for_and_has_not_is_refused_by_name() {
    story(|world| async move {
        let id = world.submit().await;
        for (of, name, value) in [
            ("addresses", "prefix", "10.0.0.0/8"),
            ("addresses", "prefix", "::/0"),
            ("addresses", "prefix", "127.0.0.0/-1"),
            ("addresses", "depth", "0"),
            ("addresses", "depth", "7"),
            ("addresses", "depth", "18446744073709551616"),
            ("addresses", "vantage", "nowhere"),
            ("addresses", "address", "127.0.0.1"),
            ("ports", "address", "10.0.0.1"),
            ("ports", "address", "127.0.0.9-127.0.0.1"),
            ("ports", "address", "127.0.0.1,127.0.0.9"),
            ("ports", "port", "50-60000"),
            ("ports", "port", "0-65536"),
            ("ports", "port", "%D9%A1"),
            ("ports", "vantage", "'%20OR%201=1"),
            ("ports", "prefix", "127.0.0.0/8"),
        ] {
            let answer = get(&world, &format!("/api/v1/scans/{id}/maps/{of}?{name}={value}")).await;
            let said = text(&answer);
            assert!(answer.status == 400 && said.contains(name), "{of}?{name}={value}: {} {said}", answer.status);
            let page = get(&world, &format!("/scans/{id}/maps?{name}={value}")).await;
            let fits_page = (of, name) == ("addresses", "address") || (of, name) == ("ports", "prefix");
            assert_eq!(page.status, if fits_page { 200 } else { 400 }, "{name}={value}");
        }
    });
}

#[test]
fn every_link_of_the_page_leads_to_a_page() {
    story(|world| async move {
        let id = world.submit().await;
        let base = format!("/scans/{id}/maps");
        let (mut waits, mut seen) =
            (vec![base.clone(), format!("{base}?prefix=127.0.0.4/30&port=1-20")], BTreeSet::new());
        let (mut maps, mut others) = (0, BTreeSet::new());
        while let Some(path) = waits.pop() {
            if !seen.insert(path.clone()) || maps > 40 {
                continue;
            }
            let answer = get(&world, &path).await;
            let page = text(&answer);
            assert_eq!(answer.status, 200, "{path}: {page}");
            assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<script>"), "{path}");
            maps += 1;
            for link in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let link = link.replace("&#38;", "&").replace("&amp;", "&");
                match link.strip_prefix('?') {
                    Some(query) => waits.push(format!("{base}?{query}")),
                    None if link.starts_with(&format!("/scans/{id}")) => {
                        others.insert(link);
                    }
                    None => {}
                }
            }
        }
        assert!(others.iter().any(|link| link.ends_with("/hosts/127.0.0.5")), "{others:?}");
        for link in others {
            let status = get(&world, &link).await.status;
            assert_eq!(status, 200, "{link}");
        }
    });
}
