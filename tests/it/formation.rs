//! A datacenter forms in one process, and issues.

use carrack_tests::in_process::Datacenter;

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_form_a_datacenter_in_which_each_issues() -> anyhow::Result<()> {
    let datacenter = Datacenter::form(3).await?;
    for place in &datacenter.places {
        assert!(place.running().context().desk.issuer().is_some(), "{}", place.name);
    }
    Ok(())
}
