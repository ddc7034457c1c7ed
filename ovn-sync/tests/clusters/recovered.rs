//! What the README tells people to do when most files of a cluster are lost.

use std::process::Command;

use crate::common::{nbctl, run};
use crate::*;

/// As in "Databases in a cluster": from the one file that is left.
pub(crate) fn recover(member: &Member, database: &str, address: &str) {
    let at = |suffix: &str| member.options.run_dir.join(format!("{database}.{suffix}"));
    std::fs::rename(at("db"), at("lost")).unwrap();
    let tool = || Command::new("ovsdb-tool");
    run(tool().arg("cluster-to-standalone").args([at("alone"), at("lost")]));
    let timer = "--election-timer=300";
    run(tool().args([timer, "create-cluster"]).args([at("db"), at("alone")]).arg(address));
}

#[tokio::test]
async fn a_cluster_is_made_again_from_the_one_file_that_is_left() {
    let (dir, pki) = (tempfile::tempdir().unwrap(), Pki::new());
    let member = |name: &str| Member::new(dir.path(), name, Some(pki.central(name)));
    let [mut first, mut second, mut third] = ["1", "2", "3"].map(member);
    first.set_part(Part { form: Form::Create, ..Part::default() });
    first.becomes("a leader", |it| it.nb.connected && it.sb.connected).await;
    for other in [&second, &third] {
        other.set_part(joining(&[&first]));
    }
    let before = first.takes_part().await;
    nbctl(&first.nb(), &["--no-leader-only", "ls-add", "kept"]);
    for other in [&mut second, &mut third] {
        other.stop().await;
        std::fs::remove_dir_all(&other.options.run_dir).unwrap();
    }
    first.stop().await;
    recover(&first, "nb", &before.nb.address);
    recover(&first, "sb", &before.sb.address);
    first.start();
    first.becomes("a leader again", |it| it.nb.connected && it.sb.connected).await;
    for other in [&mut second, &mut third] {
        other.start();
        other.set_part(joining(&[&first]));
    }
    assert_ne!(third.takes_part().await.nb.cid, before.nb.cid);
    let kept = nbctl(&third.nb(), &["--no-leader-only", "--bare", "ls-list"]);
    assert!(kept.contains("kept"), "{kept}");
}
