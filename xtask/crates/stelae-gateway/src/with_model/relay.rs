//! A socket that listens where the program is, and a way from it to the one that it stands for, out here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Until another connection is taken, after one could not be.
const PAUSE: Duration = Duration::from_millis(50);

/// Passes every connection on, for as long as anybody listens.
pub(super) async fn relay(listener: TcpListener, to: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((inside, _)) => {
                tokio::spawn(pass(inside, to));
            }
            // No descriptors left, or one that has gone before it was taken.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Passes one connection on. That it ends badly is between its two ends.
async fn pass(mut inside: TcpStream, to: SocketAddr) {
    let passed: io::Result<()> = async {
        let mut outside = TcpStream::connect(to).await?;
        inside.set_nodelay(true)?;
        outside.set_nodelay(true)?;
        copy_bidirectional(&mut inside, &mut outside).await?;
        Ok(())
    }
    .await;
    if passed.is_err() {
        // Nobody answers there any more. It was taken already, so it cannot be refused; a reset says it best.
        inside.set_zero_linger().ok();
    }
}
