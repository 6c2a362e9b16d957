use super::{Fake, Lab};
#[tokio::test(flavor = "multi_thread")]
async fn deep() {
    let lab = Lab::new().await;
    let depth = std::env::var("DEPTH").unwrap();
    let kind = std::env::var("KIND").unwrap();
    let out = std::process::Command::new("python3").args(["/tmp/amqpx/deep.py", "127.0.0.1", "5672", &lab.queue, &depth, &kind]).output().unwrap();
    println!("{}", String::from_utf8_lossy(&out.stdout));
    println!("{}", String::from_utf8_lossy(&out.stderr));
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let held = intake.given(1).await.remove(0);
    println!("got, header bytes {}", held.event.headers.iter().map(|h| h.1.len()).sum::<usize>());
    running.stop().await;
    lab.clean().await;
}
