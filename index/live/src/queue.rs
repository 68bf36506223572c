//! Changes waiting for the writer: bounded by number and by size.

use std::collections::VecDeque;

use bowerbird_posts::{Op, Outcome, Post};
use parking_lot::{Condvar, Mutex};

use crate::LiveError;

/// What a caller gets back.
pub(crate) type Written = Result<Vec<Outcome>, LiveError>;

/// Where the answer goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// To a task.
    Async(tokio::sync::oneshot::Sender<Written>),
    /// To a thread.
    Blocking(crossbeam_channel::Sender<Written>),
}

impl Reply {
    /// Answers; a caller that has gone does not mind.
    pub fn send(self, written: Written) {
        match self {
            Self::Async(sender) => drop(sender.send(written)),
            Self::Blocking(sender) => drop(sender.send(written)),
        }
    }
}

/// One caller's changes.
#[derive(Debug)]
pub(crate) struct Request {
    pub ops: Vec<Op>,
    pub bytes: usize,
    pub reply: Reply,
}

impl Request {
    pub fn new(ops: Vec<Op>, reply: Reply) -> Self {
        let bytes = ops.iter().map(op_bytes).sum();
        Self { ops, bytes, reply }
    }
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    ops: usize,
    bytes: usize,
    closed: bool,
}

/// First in, first out.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    state: Mutex<State>,
    arrived: Condvar,
    left: Condvar,
    limit_ops: usize,
    limit_bytes: usize,
}

impl WriteQueue {
    pub fn new(limit_ops: usize, limit_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            left: Condvar::new(),
            limit_ops,
            limit_bytes,
        }
    }

    /// Adds a request if it fits. One that is larger than the whole queue fits when nothing waits: its caller holds
    /// its memory anyway.
    pub fn try_push(&self, request: Request) -> Result<(), LiveError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(LiveError::Stopped);
        }
        if !self.fits(&state, &request) {
            return Err(LiveError::Overloaded {
                queued_ops: state.ops,
                queued_bytes: state.bytes,
                limit_ops: self.limit_ops,
                limit_bytes: self.limit_bytes,
            });
        }
        self.admit(&mut state, request);
        Ok(())
    }

    /// Adds a request, waiting until it fits.
    pub fn push(&self, request: Request) -> Result<(), LiveError> {
        let mut state = self.state.lock();
        while !state.closed && !self.fits(&state, &request) {
            self.left.wait(&mut state);
        }
        if state.closed {
            return Err(LiveError::Stopped);
        }
        self.admit(&mut state, request);
        Ok(())
    }

    /// Waits for requests and takes as many as have together at most `group_ops` changes, at least one. None when
    /// the queue is closed and empty.
    pub fn pop_group(&self, group_ops: usize) -> Option<Vec<Request>> {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
        let mut group: Vec<Request> = Vec::new();
        let mut ops = 0;
        while let Some(request) = state.requests.front() {
            if !group.is_empty() && ops + request.ops.len() > group_ops {
                break;
            }
            if let Some(request) = state.requests.pop_front() {
                ops += request.ops.len();
                state.ops -= request.ops.len();
                state.bytes -= request.bytes;
                group.push(request);
            }
        }
        self.left.notify_all();
        Some(group)
    }

    /// Refuses what comes from now on; what waits is still taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
        self.left.notify_all();
    }

    /// Refuses what comes and answers what waits: nobody will take it.
    pub fn abandon(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            (state.ops, state.bytes) = (0, 0);
            std::mem::take(&mut state.requests)
        };
        self.left.notify_all();
        for request in waiting {
            request.reply.send(Err(LiveError::Stopped));
        }
    }

    /// Changes and bytes waiting.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.ops, state.bytes)
    }

    fn fits(&self, state: &State, request: &Request) -> bool {
        state.requests.is_empty()
            || (state.ops + request.ops.len() <= self.limit_ops
                && state.bytes + request.bytes <= self.limit_bytes)
    }

    fn admit(&self, state: &mut State, request: Request) {
        state.ops += request.ops.len();
        state.bytes += request.bytes;
        state.requests.push_back(request);
        self.arrived.notify_one();
    }
}

/// About how much memory a change takes.
fn op_bytes(op: &Op) -> usize {
    let strings = |list: &[String]| list.iter().map(|text| text.len() + 24).sum::<usize>();
    let post_bytes = |post: &Post| {
        let attributes: usize =
            post.attributes.iter().map(|(name, value)| name.len() + value.to_string().len() + 64).sum();
        post.text.len()
            + post.author.len()
            + strings(&post.tags)
            + strings(&post.mentions)
            + strings(&post.links)
            + attributes
    };
    256 + op.id().as_str().len()
        + match op {
            Op::Upsert(post) => post_bytes(post),
            Op::SetCounts { .. } | Op::Delete(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowerbird_posts::PostId;

    fn request(ops: usize) -> Request {
        let (sender, _) = crossbeam_channel::bounded(1);
        let delete = Op::Delete(PostId::new("1").expect("valid"));
        Request::new(vec![delete; ops], Reply::Blocking(sender))
    }

    #[test]
    fn full_by_number_or_by_size_and_a_large_request_passes_alone() {
        let queue = WriteQueue::new(10, 1 << 20);
        queue.try_push(request(50)).expect("alone, any size passes");
        let full = queue.try_push(request(1));
        assert!(matches!(full, Err(LiveError::Overloaded { queued_ops: 50, limit_ops: 10, .. })));
        assert_eq!(queue.pop_group(8).map(|group| group.len()), Some(1));
        for _ in 0..5 {
            queue.try_push(request(2)).expect("fits");
        }
        assert!(queue.try_push(request(1)).is_err());
        assert_eq!(queue.pop_group(5).map(|group| group.len()), Some(2), "a request is never split");
        assert_eq!(queue.waiting().0, 6);
        let small = WriteQueue::new(100, 300);
        small.try_push(request(1)).expect("fits");
        assert!(matches!(small.try_push(request(1)), Err(LiveError::Overloaded { limit_bytes: 300, .. })));
    }

    #[test]
    fn a_closed_queue_is_emptied_and_an_abandoned_one_answers() {
        let queue = WriteQueue::new(10, 1 << 20);
        queue.push(request(1)).expect("fits");
        queue.close();
        assert!(matches!(queue.push(request(1)), Err(LiveError::Stopped)));
        assert!(queue.pop_group(1).is_some());
        assert!(queue.pop_group(1).is_none());
        let queue = WriteQueue::new(10, 1 << 20);
        let (sender, answers) = crossbeam_channel::bounded(1);
        queue.push(Request::new(Vec::new(), Reply::Blocking(sender))).expect("fits");
        queue.abandon();
        assert!(matches!(answers.recv(), Ok(Err(LiveError::Stopped))));
        assert!(matches!(queue.try_push(request(1)), Err(LiveError::Stopped)));
    }
}
