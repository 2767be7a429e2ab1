//! What happens to packets between the host and a peer.

use super::Nanos;

/// Where packets end that never arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Somewhere on the way; nothing comes back.
    Hole,
    /// In the host, where they wait for the link address of a next hop that does not answer.
    Neighbour,
    /// In the host, which refuses to send them.
    Local,
}

/// The way to a peer and back, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// Time there and back.
    pub rtt: Nanos,
    /// How much that varies, as a share of it.
    pub jitter: f64,
    /// Share of segments that vanish on the way there.
    pub loss: f64,
    /// Share of acknowledgements that vanish on the way back.
    pub ack_loss: f64,
    /// Segments with more bytes of data vanish.
    pub limit: Option<u32>,
    /// Nothing passes.
    pub block: Option<Block>,
}

impl Way {
    /// Nothing is wrong with it.
    pub fn clear(rtt: Nanos) -> Self {
        Self {
            rtt,
            jitter: 0.0,
            loss: 0.0,
            ack_loss: 0.0,
            limit: None,
            block: None,
        }
    }

    /// Something further loses this share of what is left there and back.
    pub fn lose(&mut self, forward: f64, back: f64) {
        self.loss = 1.0 - (1.0 - self.loss) * (1.0 - forward);
        self.ack_loss = 1.0 - (1.0 - self.ack_loss) * (1.0 - back);
    }
}
