//! The nodes of a run as a star: each sends what it has to the first, which adds it up in the order
//! of nodes and sends everybody the same bits.

use std::convert::Infallible;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use burn::train::Interrupter;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, Frame, Kind};
use super::error::ParallelError;
use super::gradients::Contribution;
use crate::config::TrainConfig;

/// How long nodes wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until all nodes have come.
    pub coming: Duration,
    /// Without a sign of life from a node that was there. Nodes that compute, evaluate or write give
    /// such signs too.
    pub silence: Duration,
}

impl Default for Patience {
    /// Ten minutes to come, one minute of silence.
    fn default() -> Self {
        Self {
            coming: Duration::from_secs(600),
            silence: Duration::from_secs(60),
        }
    }
}

/// Time between attempts to connect or to find somebody who does.
const PAUSE: Duration = Duration::from_millis(50);

/// What a node brings.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    version: String,
    n_devices: usize,
}

/// The place of a node in a run, and the run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    /// Numbers of its devices among those of all nodes.
    pub(super) replicas: Range<usize>,
    /// Devices of all nodes.
    pub(super) n_replicas: usize,
    pub(super) config: TrainConfig,
    /// Training steps that are done.
    pub(super) step: usize,
}

/// The first node of a run, before the others have come.
#[derive(Debug)]
pub struct Coordinator {
    listener: TcpListener,
    address: String,
    n_nodes: usize,
    patience: Patience,
}

impl Coordinator {
    /// Begins to listen for the other nodes of a run of `n_nodes`. The connection is neither secret
    /// nor guarded: use it in a network that you trust.
    ///
    /// # Errors
    /// An address that is not one of this machine, or in use.
    pub fn listen(address: &str, n_nodes: usize) -> Result<Self, ParallelError> {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        Ok(Self {
            listener: listener.map_err(|source| ParallelError::Listen {
                address: address.to_owned(),
                source,
            })?,
            address: address.to_owned(),
            n_nodes,
            patience: Patience::default(),
        })
    }

    /// Waits longer or shorter.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The port that it listens on, where the address left it open by 0.
    pub fn port(&self) -> Option<u16> {
        Some(self.listener.local_addr().ok()?.port())
    }

    /// Waits until all nodes are there, and tells each its place and the `state` that the run goes on
    /// from. `n_devices` are those of this node.
    pub(crate) fn gather(
        self,
        config: &TrainConfig,
        step: usize,
        n_devices: usize,
        state: &[Vec<u8>],
        interrupter: &Interrupter,
    ) -> Result<Group, ParallelError> {
        let deadline = Instant::now() + self.patience.coming;
        let mut members = Vec::new();
        let mut ends = vec![n_devices];
        while members.len() + 1 < self.n_nodes {
            if interrupter.should_stop() {
                return Err(ParallelError::stopped(interrupter));
            }
            let Ok((stream, address)) = self.listener.accept() else {
                if Instant::now() > deadline {
                    return Err(self.missing(members.len() + 1));
                }
                thread::sleep(PAUSE);
                continue;
            };
            let node = format!("node {} ({address})", members.len() + 1);
            // Whoever connects by mistake is no reason to end the run.
            if let Some((member, n_devices)) = self.greet(stream, node) {
                ends.push(ends[members.len()] + n_devices);
                members.push(member);
            }
        }
        let n_replicas = ends[members.len()];
        for (member, ends) in members.iter().zip(ends.windows(2)) {
            let welcome = Welcome {
                replicas: ends[0]..ends[1],
                n_replicas,
                config: config.clone(),
                step,
            };
            member.send(Kind::Welcome, &packed(&welcome))?;
            for part in state {
                member.send(Kind::State, part)?;
            }
        }
        Ok(Group {
            replicas: 0..n_devices,
            n_replicas,
            others: members,
            is_first: true,
        })
    }

    /// Lets a node in, if it is one of this version.
    fn greet(&self, stream: TcpStream, node: String) -> Option<(Connection, usize)> {
        stream.set_nonblocking(false).ok()?;
        let member = Connection::new(stream, node, self.patience.silence).ok()?;
        let hello: Hello = parse(&member, &member.receive(Kind::Hello).ok()?).ok()?;
        if hello.version != VERSION {
            let reason = format!(
                "it runs version {VERSION}, and version {} cannot join",
                hello.version
            );
            member.close(Kind::GiveUp, reason.as_bytes());
            return None;
        }
        Some((member, hello.n_devices))
    }

    fn missing(&self, n_present: usize) -> ParallelError {
        ParallelError::Missing {
            address: self.address.clone(),
            n_present,
            n_nodes: self.n_nodes,
            seconds: self.patience.coming.as_secs(),
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Connects to the first node and waits for the others to come.
pub(super) fn join(
    address: &str,
    n_devices: usize,
    patience: Patience,
) -> Result<(Group, Welcome), ParallelError> {
    let stream = connect(address, patience.coming)?;
    let unusable = |source| ParallelError::Unreachable {
        address: address.to_owned(),
        source,
    };
    let node = format!("node 0 ({address})");
    let first = Connection::new(stream, node, patience.silence).map_err(unusable)?;
    let hello = Hello {
        version: VERSION.to_owned(),
        n_devices,
    };
    first.send(Kind::Hello, &packed(&hello))?;
    let welcome: Welcome = parse(&first, &first.receive(Kind::Welcome)?)?;
    let group = Group {
        replicas: welcome.replicas.clone(),
        n_replicas: welcome.n_replicas,
        others: vec![first],
        is_first: false,
    };
    Ok((group, welcome))
}

/// Tries until somebody listens: nodes may be started in any order.
fn connect(address: &str, coming: Duration) -> Result<TcpStream, ParallelError> {
    let deadline = Instant::now() + coming;
    let attempt = || -> io::Result<TcpStream> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "no such host");
        let address = address.to_socket_addrs()?.next().ok_or_else(none)?;
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
    };
    loop {
        match attempt() {
            Ok(stream) => return Ok(stream),
            // What is no address stays none.
            Err(source)
                if Instant::now() > deadline || source.kind() == io::ErrorKind::InvalidInput =>
            {
                return Err(ParallelError::Unreachable {
                    address: address.to_owned(),
                    source,
                });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// As MessagePack, which keeps every bit of a number.
fn packed(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain data with text for keys")
}

fn parse<T: for<'a> Deserialize<'a>>(from: &Connection, frame: &Frame) -> Result<T, ParallelError> {
    rmp_serde::from_slice(&frame.content).map_err(|error| from.protocol(error.to_string()))
}

/// The nodes of a run, as one of them sees them.
#[derive(Debug)]
pub(crate) struct Group {
    /// Numbers of the devices of this node among those of all.
    pub(super) replicas: Range<usize>,
    /// Devices of all nodes.
    pub(super) n_replicas: usize,
    /// Of the first node: all others. Of the others: the first.
    others: Vec<Connection>,
    is_first: bool,
}

impl Group {
    /// Adds up what nodes have. All get the same bits: one node adds, in the order of nodes.
    pub(super) fn sum(&self, own: Contribution) -> Result<Contribution, ParallelError> {
        if self.is_first {
            self.add(own)
        } else {
            self.ask(&own)
        }
    }

    fn add(&self, mut sum: Contribution) -> Result<Contribution, ParallelError> {
        for member in &self.others {
            let frame = member.receive(Kind::Gradients)?;
            let part = Contribution::from_bytes(&frame.content);
            let part = part.filter(|part| part.values.len() == sum.values.len());
            let part = part.ok_or_else(|| member.protocol("its gradients are of another model"))?;
            sum.add(&part);
        }
        let bytes = sum.to_bytes();
        for member in &self.others {
            member.send(Kind::Sum, &bytes)?;
        }
        Ok(sum)
    }

    fn ask(&self, own: &Contribution) -> Result<Contribution, ParallelError> {
        let first = self.first();
        first.send(Kind::Gradients, &own.to_bytes())?;
        let frame = first.receive(Kind::Sum)?;
        Contribution::from_bytes(&frame.content).ok_or_else(|| first.protocol("its sum is cut off"))
    }

    /// Waits for the first node to end the run: its own last step is not yet the end.
    ///
    /// # Errors
    /// The end, or whatever comes instead.
    pub(super) fn wait(&self) -> Result<Infallible, ParallelError> {
        let frame = self.first().receive(Kind::End)?;
        Err(self
            .first()
            .protocol(format!("{:?} is no message", frame.kind)))
    }

    /// A part of the state that the run goes on from.
    pub(super) fn receive_state(&self) -> Result<Vec<u8>, ParallelError> {
        Ok(self.first().receive(Kind::State)?.content)
    }

    fn first(&self) -> &Connection {
        &self.others[0]
    }

    /// Tells the others that the run is over, and why.
    pub(crate) fn end(self, reason: &str) {
        self.leave(Kind::End, reason);
    }

    /// Tells the others that this node cannot go on, and why.
    pub(crate) fn give_up(self, reason: &str) {
        self.leave(Kind::GiveUp, reason);
    }

    fn leave(self, kind: Kind, reason: &str) {
        for other in self.others {
            other.close(kind, reason.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataConfig;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};

    const SHORT: Patience = Patience {
        coming: Duration::from_millis(300),
        silence: Duration::from_secs(20),
    };
    const LONG: Patience = Patience {
        coming: Duration::from_secs(20),
        ..SHORT
    };

    fn config() -> TrainConfig {
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 2));
        TrainConfig::new(model.into(), DataConfig::Sample)
    }

    fn listen(n_nodes: usize) -> (Coordinator, String) {
        let coordinator = Coordinator::listen("127.0.0.1:0", n_nodes).unwrap();
        let address = format!("127.0.0.1:{}", coordinator.port().unwrap());
        (coordinator.with_patience(LONG), address)
    }

    fn contribution(values: [f32; 3]) -> Contribution {
        Contribution {
            nll: f64::from(values[0]),
            values: values.to_vec(),
            ..Contribution::default()
        }
    }

    #[test]
    fn three_nodes_get_the_same_sum_and_devices_of_their_own() {
        let (coordinator, address) = listen(3);
        let members = [2, 3].map(|n_devices| {
            let address = address.clone();
            thread::spawn(move || {
                let (group, welcome) = join(&address, n_devices, LONG).unwrap();
                assert_eq!(welcome.config, config());
                assert_eq!((welcome.step, welcome.n_replicas), (7, 6));
                assert_eq!(welcome.replicas.len(), n_devices);
                assert_eq!(group.receive_state().unwrap(), b"state");
                let sum = group.sum(contribution([1e-8, 2.0, 3.0])).unwrap();
                let ended = group.wait().unwrap_err().to_string();
                assert_eq!(ended, "the run has ended: done");
                (sum, welcome.replicas)
            })
        });
        let group = coordinator
            .gather(&config(), 7, 1, &[b"state".to_vec()], &Interrupter::new())
            .unwrap();
        assert_eq!((group.replicas.clone(), group.n_replicas), (0..1, 6));
        let sum = group.sum(contribution([1.0, 2.0, 3.0])).unwrap();
        assert_eq!(sum.values, [1.0f32 + 1e-8 + 1e-8, 6.0, 9.0]);
        assert!((sum.nll - 1.000_000_02).abs() < 1e-12);
        group.end("done");
        let mut replicas = Vec::new();
        for member in members {
            let (of_member, range) = member.join().unwrap();
            assert_eq!(of_member, sum);
            replicas.extend(range);
        }
        replicas.sort_unstable();
        assert_eq!(replicas, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn who_does_not_come_is_missed() {
        let (coordinator, address) = listen(2);
        // A visitor is no node.
        drop(TcpStream::connect(&address));
        let waiting = coordinator.with_patience(SHORT);
        let error = waiting
            .gather(&config(), 0, 1, &[], &Interrupter::new())
            .unwrap_err();
        assert!(
            error.to_string().starts_with("only 1 of 2 nodes"),
            "{error}"
        );
    }

    #[test]
    fn address_without_a_run_is_named() {
        let error = join("127.0.0.1:1", 1, SHORT).unwrap_err().to_string();
        assert!(error.contains("`127.0.0.1:1`"), "{error}");
        let error = join("nonsense", 1, LONG).unwrap_err().to_string();
        assert!(error.contains("`nonsense`"), "{error}");
        let error = Coordinator::listen("192.0.2.1:80", 2).unwrap_err();
        assert!(error.to_string().contains("`192.0.2.1:80`"), "{error}");
    }

    #[test]
    fn lost_member_and_lost_coordinator_are_errors() {
        let (coordinator, address) = listen(2);
        let member = thread::spawn(move || drop(join(&address, 1, LONG).unwrap()));
        let group = coordinator
            .gather(&config(), 0, 1, &[], &Interrupter::new())
            .unwrap();
        member.join().unwrap();
        let error = group.sum(contribution([0.0; 3])).unwrap_err();
        assert!(error.to_string().contains("is lost"), "{error}");

        let (coordinator, address) = listen(2);
        let member = thread::spawn(move || {
            let (group, _) = join(&address, 1, LONG).unwrap();
            group.sum(contribution([0.0; 3])).unwrap_err().to_string()
        });
        let group = coordinator
            .gather(&config(), 0, 1, &[], &Interrupter::new())
            .unwrap();
        group.give_up("the loss is no number");
        let error = member.join().unwrap();
        assert!(error.contains("gave up: the loss is no number"), "{error}");
    }
}
