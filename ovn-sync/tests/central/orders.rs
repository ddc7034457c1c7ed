//! Databases that are made anew, and backups of them.

use atoll_ovn_sync::Database;

use crate::copies::{claim, copying, runtime};
use crate::*;

#[tokio::test]
async fn a_copy_that_is_rebuilt_is_a_copy_again() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    claim(&first.sb());
    let second = copying(&store, &first).await;
    let before = pid(&second.file("sb.pid")).unwrap();
    second.central.orders().rebuild().await.unwrap();
    assert!(second.file("sb.db.replaced").exists() && second.file("nb.db.replaced").exists());
    second.reaches("a copy", |status| status.copying && status.healthy).await;
    assert_ne!(pid(&second.file("sb.pid")), Some(before));
    let same = async || (runtime(&second) == runtime(&first)).then_some(());
    eventually("the same contents", same).await;
    become_rows(&second.nb(), &store.rows()).await;
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_serving_central_that_is_rebuilt_serves_what_the_store_says() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    member.central.orders().rebuild().await.unwrap();
    member.reaches("serving and healthy", |status| status.serving && status.healthy).await;
    assert_eq!(rows_at(&member.nb()).await, store.rows());
    let ports = column(&member.sb(), "Port_Binding", "logical_port");
    assert!(ports.contains(&"a.default".to_owned()), "{ports:?}");
    member.end().await;
}

#[tokio::test]
async fn a_backup_is_a_file_that_ovsdb_reads() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    for (database, name) in
        [(Database::Northbound, "OVN_Northbound"), (Database::Southbound, "OVN_Southbound")]
    {
        let mut backup = member.central.orders().backup(database).unwrap();
        let mut bytes = Vec::new();
        while let Some(part) = backup.next().await.unwrap() {
            bytes.extend_from_slice(&part);
        }
        let file = member.dir.path().join("backup.db");
        fs::write(&file, bytes).unwrap();
        let named = run(Command::new("ovsdb-tool").arg("db-name").arg(&file));
        assert_eq!(named.trim(), name);
        let all = run(Command::new("ovsdb-tool").args(["query"]).arg(&file).arg(format!(
            r#"["{name}",{{"op":"select","table":"{}","where":[]}}]"#,
            if name == "OVN_Northbound" { "Logical_Switch_Port" } else { "Port_Binding" },
        )));
        assert!(all.contains("a.default"), "{all}");
    }
    let orders = member.central.orders();
    member.end().await;
    let mut late = orders.backup(Database::Northbound).unwrap();
    let why = late.next().await.unwrap_err().to_string();
    assert!(why.contains("nb.sock"), "{why}");
}
