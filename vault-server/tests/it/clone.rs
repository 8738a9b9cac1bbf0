//! Copied hosts: what is recorded, and who is told.

use shared::audit::{Outcome, Record};
use shared::error::Code;
use shared::hash::Hash;
use shared::log::Op;
use shared::text::Text;
use shared::wire::v1::REPORT;
use shared::wire::v1::audit::AuditPage;
use shared::wire::v1::report::ReportReply;

use crate::client::{Client, parse, refused};
use crate::world::{Machine, World};

#[tokio::test]
async fn one_machines_keys_in_two_processes_are_told_and_recorded_once() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &[]).await;
    let nas = world.add(&client, "nas", &[]).await;
    let follow = async |run: &str, host: u8| {
        let from = [127, 0, 0, host].into();
        let (addr, key) = (world.server.addr, &vps.sign);
        let client = Client::connect_from(from, addr, &world.server_key, key).await;
        let run = format!("&run={}", Hash::of(&[run.as_bytes()]));
        client.follow_as(3, &run).await.head().await;
    };
    let mut n = 0;
    let mut told = async |machine: &Machine| {
        n += 1;
        let client = world.client(machine).await;
        let (status, body) =
            client.post(REPORT, &world.report(machine, &world.seen(machine, n))).await;
        assert_eq!(status, 200, "{body:?}");
        parse::<ReportReply>(&body).clones
    };
    // Restarts, and a laptop between two networks.
    for (run, host) in [("a", 2), ("b", 3), ("b", 2), ("c", 2), ("d", 3)] {
        follow(run, host).await;
    }
    assert!(told(&vps).await.is_empty() && told(&world.first).await.is_empty());
    for (run, host) in [("e", 2), ("f", 3), ("e", 2), ("f", 3), ("e", 2), ("f", 3)] {
        follow(run, host).await;
    }
    let number = world.number(&vps);
    for machine in [&vps, &world.first] {
        let [notice] = &told(machine).await[..] else { panic!("{} is not told", machine.name) };
        let addresses = notice.addresses.each_ref().map(Text::as_str);
        assert_eq!((notice.machine, addresses), (number, ["127.0.0.2", "127.0.0.3"]));
    }
    assert!(told(&nas).await.is_empty(), "whom it does not concern");
    let page: AuditPage = client.fetch("/v1/audit?op=clone").await;
    let facts = page.records.iter().map(|text| Record::parse(text.as_bytes()).unwrap().fact);
    let facts: Vec<_> = facts.map(|fact| (fact.machine, fact.addr, fact.result)).collect();
    let record = |addr: &str| {
        let result = Outcome::Refused(Code::Clone);
        (Some(vps.name.clone()), Some(Text::lossy(addr)), result)
    };
    assert_eq!(facts, [record("127.0.0.2"), record("127.0.0.3")]);
    let page: AuditPage = client.fetch("/v1/audit?denied=true&op=clone").await;
    assert_eq!(page.records.len(), 2, "nobody overlooks it");
    // It goes with the machine.
    let remove = Op::MachineRemove { number, reason: "copied".parse().unwrap() };
    world.append(&client, world.by_admin(vec![remove]), vec![]).await;
    let client = world.client(&world.first).await;
    let (_, body) =
        client.post(REPORT, &world.report(&world.first, &world.seen(&world.first, 99))).await;
    assert!(parse::<ReportReply>(&body).clones.is_empty());
}

#[tokio::test]
async fn on_a_full_disk_a_copied_host_keeps_nobody_from_reporting() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &[]).await;
    // No room can be kept: to the server the disk is full.
    let reserve = world.config.data.join("reserve");
    std::fs::remove_file(&reserve).unwrap();
    std::fs::create_dir(&reserve).unwrap();
    world.restart().await;
    let client = world.client(&world.first).await;
    for run in ["a", "b", "a", "b"] {
        let run = format!("&run={}", Hash::of(&[run.as_bytes()]));
        world.client(&vps).await.follow_as(2, &run).await.head().await;
    }
    let report = world.report(&world.first, &world.seen(&world.first, 1));
    let (status, body) = client.post(REPORT, &report).await;
    assert_eq!(status, 200, "{body:?}");
    assert_eq!(parse::<ReportReply>(&body).clones.len(), 1);
    let (op, _) = world.put("secret/a", "x");
    let put = crate::world::post(&client, &world.by_first(vec![op]), vec![]).await;
    assert_eq!(refused(put).0, 503, "it is full");
}
