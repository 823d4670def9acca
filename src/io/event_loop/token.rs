//! Whom an event is for. A token is made of the name of its connection or socket, so that nobody has to look
//! one up by the other; and as names are never used again, a late event never hits anybody else.

use mio::Token;

use crate::seam::{ConnId, SocketId};

pub(super) const LISTENER: Token = Token(0);
pub(super) const STOP: Token = Token(1);
pub(super) const RELOAD: Token = Token(2);
pub(super) const ADMIN: Token = Token(3);

/// Whose name a token is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Conn(ConnId),
    Socket(SocketId),
}

/// The first one that is made of a name.
const FIRST: usize = 4;
/// Kinds of names; their tokens alternate.
const KINDS: usize = 3;

/// The token of a connection.
pub(super) fn of_conn(id: ConnId) -> Token {
    match id {
        ConnId::Accepted(number) => token(0, number),
        ConnId::Dialed(number) => token(1, number),
    }
}

/// The token of a socket.
pub(super) fn of_socket(SocketId(number): SocketId) -> Token {
    token(2, number)
}

/// The name that a token is made of.
pub(super) fn name(Token(token): Token) -> Option<Named> {
    let place = token.checked_sub(FIRST)?;
    let number = u64::try_from(place / KINDS).ok()?;
    Some(match place % KINDS {
        0 => Named::Conn(ConnId::Accepted(number)),
        1 => Named::Conn(ConnId::Dialed(number)),
        _ => Named::Socket(SocketId(number)),
    })
}

/// Nobody lives to see so many that a token has no room for the number.
fn token(kind: usize, number: u64) -> Token {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    Token(number.saturating_mul(KINDS).saturating_add(FIRST + kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is() {
        let mut tokens = vec![LISTENER, STOP, RELOAD, ADMIN];
        assert!(tokens.iter().all(|token| name(*token).is_none()));
        for number in [0, 1, 2, 1 << 40] {
            for id in [ConnId::Accepted(number), ConnId::Dialed(number)] {
                assert_eq!(name(of_conn(id)), Some(Named::Conn(id)));
                tokens.push(of_conn(id));
            }
            let id = SocketId(number);
            assert_eq!(name(of_socket(id)), Some(Named::Socket(id)));
            tokens.push(of_socket(id));
        }
        tokens.sort_unstable();
        assert!(tokens.is_sorted_by(|one, next| one < next), "no two are the same: {tokens:?}");
    }
}
