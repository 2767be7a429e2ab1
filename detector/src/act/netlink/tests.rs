use netlink_packet_sock_diag::{
    constants::{AF_INET, AF_INET6},
    inet::{InetResponseHeader, nlas::Nla},
};
use rtnetlink::packet_core::NetlinkHeader;

use super::*;
use crate::{act::tests::target, model::IfIndex};

/// A message as it comes, with its length (netlink(7)).
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// `NLMSG_ERROR`, with the header of the question behind it.
fn ended(code: i32) -> Vec<u8> {
    let question = message(21, 7, &[]);
    message(2, 7, &[&code.to_ne_bytes()[..], &question].concat())
}

#[test]
fn answers_of_the_kernel_are_told_apart() {
    assert!(matches!(answer(&ended(0), 7), Ok(Some(Answer::Done))));
    for (code, number) in [
        (-libc::EPERM, libc::EPERM),
        (-libc::EOPNOTSUPP, libc::EOPNOTSUPP),
    ] {
        let Ok(Some(Answer::Failed(error))) = answer(&ended(code), 7) else {
            panic!("{code} is a failure");
        };
        assert_eq!(error.raw_os_error(), Some(number));
    }
    // The end of a walk.
    let done = message(3, 7, &0_i32.to_ne_bytes());
    assert!(matches!(answer(&done, 7), Ok(Some(Answer::Done))));
    // What was asked before is nobody's answer.
    assert!(matches!(answer(&ended(0), 8), Ok(None)));
    for rubbish in [
        &b""[..],
        b"\0",
        &ended(0)[..17],
        &message(20, 7, &[2]),
        &message(99, 7, &[0; 80]),
    ] {
        assert!(answer(rubbish, 7).is_err(), "{rubbish:?}");
    }
}

#[test]
fn a_socket_is_told_with_its_cookie() {
    let mut socket_id = name(&target());
    socket_id.cookie = 77_u64.to_ne_bytes();
    let told = InetResponse {
        header: InetResponseHeader {
            family: AF_INET,
            state: 1,
            timer: None,
            socket_id: socket_id.clone(),
            recv_queue: 0,
            send_queue: 9,
            uid: 0,
            inode: 4711,
        },
        nlas: [Nla::TcpInfo(vec![1; 232])].into_iter().collect(),
    };
    let payload = SockDiagMessage::InetResponse(Box::new(told.clone()));
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let Ok(Some(Answer::Told(found))) = answer(&bytes, 0) else {
        panic!("it is a socket");
    };
    assert_eq!(*found, told);
}

#[test]
fn there_being_none_is_no_failure() {
    let of = |code| nothing_or::<()>(io::Error::from_raw_os_error(code));
    assert_eq!(of(libc::ENOENT).unwrap(), Found::Nothing);
    assert_eq!(of(libc::ESTALE).unwrap(), Found::Nothing);
    for code in [libc::EPERM, libc::EOPNOTSUPP, libc::EINVAL] {
        assert_eq!(of(code).unwrap_err().raw_os_error(), Some(code));
    }
}

#[test]
fn a_connection_is_named_by_all_that_the_kernel_looks_at() {
    let mut target = target();
    (target.cookie, target.device) = (Some(77), Some(IfIndex(3)));
    let id = name(&target);
    assert_eq!((id.source_port, id.destination_port), (40_000, 25));
    assert_eq!((id.interface_id, id.cookie), (3, 77_u64.to_ne_bytes()));
    assert_eq!(request(id, StateFlags::all()).family, AF_INET);
    target.stall.local = "[2001:db8::1]:1".parse().unwrap();
    target.stall.remote = "[2001:db8::2]:2".parse().unwrap();
    (target.cookie, target.device) = (None, None);
    let id = name(&target);
    assert_eq!((id.interface_id, id.cookie), (0, ANY));
    assert_eq!(request(id, StateFlags::all()).family, AF_INET6);
}

#[test]
fn nothing_is_ended_without_its_cookie() {
    let mut asker = Asker::open().unwrap();
    let mut target = target();
    target.cookie = None;
    let refused = asker.destroy(&name(&target)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn each_refusal_says_what_to_do() {
    let of = io::Error::from_raw_os_error;
    assert!(not_reset(&of(libc::EPERM)).contains("CAP_NET_ADMIN"));
    assert!(not_reset(&of(libc::EPERM)).contains("root of the host"));
    assert!(not_reset(&of(libc::EOPNOTSUPP)).contains("CONFIG_INET_DIAG_DESTROY"));
    assert!(not_reset(&of(libc::EOPNOTSUPP)).contains("restart the process"));
    assert!(not_reset(&of(libc::EINVAL)).contains("Invalid argument"));
    assert!(unable(&of(libc::ENOENT)).contains("modprobe tcp_diag"));
    assert!(unable(&of(libc::ENOBUFS)).contains("try it again"));
}
