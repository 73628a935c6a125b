//! A TCP connection that fails when it is told to.

use std::sync::{Arc, Mutex};

use payjoin_core::PeerAddress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Node;

/// What a [`Wire`] does with the next bytes from the far end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Silence,
    Disconnect,
    Garbage,
}

/// A TCP connection to a node with somebody in the middle.
pub(crate) struct Wire {
    address: PeerAddress,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Wire {
    pub(crate) async fn to(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listens = listener.local_addr().unwrap();
        let address = format!("{}@{listens}", node.manager.get_our_node_id()).parse().unwrap();
        let (far, fault) = (node.listens, Arc::<Mutex<Option<Fault>>>::default());
        let faults = Arc::clone(&fault);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(far).await.unwrap();
                tokio::spawn(forward(near, far, Arc::clone(&faults)));
            }
        });
        Self { address, fault }
    }

    pub(crate) fn address(&self) -> PeerAddress {
        self.address.clone()
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }
}

async fn forward(near: TcpStream, far: TcpStream, fault: Arc<Mutex<Option<Fault>>>) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let back = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = far_in.read(&mut bytes).await {
            let fault = *fault.lock().unwrap();
            match fault {
                None => {}
                Some(Fault::Silence) => continue,
                Some(Fault::Disconnect) => break,
                Some(Fault::Garbage) => bytes[..count].fill(0x55),
            }
            near_out.write_all(&bytes[..count]).await.unwrap();
        }
    };
    // The connection ends with either direction: the halves are dropped.
    tokio::select! {
        _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
        () = back => {}
    }
}
