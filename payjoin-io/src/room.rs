//! Room that whoever is not served yet gives up to the next.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded room. When it is full, the next guest takes the seat of one who may be called off and takes no less: of the
/// largest the oldest. Connections that have sent no whole head, and bodies that are not whole, are such.
#[derive(Debug)]
pub(crate) struct Room {
    size: usize,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    next: u64,
    /// By age.
    guests: BTreeMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    size: usize,
    stays: bool,
    leave: Arc<Notify>,
}

impl Room {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, seats: Mutex::default() })
    }

    /// A seat of this size, for one who may be called off. `None`: there is no room, and nobody to give it up.
    pub(crate) fn enter(self: &Arc<Self>, size: usize) -> Option<Seat> {
        let mut seats = self.seats();
        if size > self.size - seats.taken {
            seats.make_room(size)?;
        }
        let (number, leave) = (seats.next, Arc::<Notify>::default());
        seats.next += 1;
        seats.taken += size;
        seats.guests.insert(number, Guest { size, stays: false, leave: Arc::clone(&leave) });
        drop(seats);
        Some(Seat { room: Arc::clone(self), number, leave })
    }

    /// Calls off everybody who may be.
    pub(crate) fn clear(&self) {
        let mut seats = self.seats();
        let waiting: Vec<u64> =
            seats.guests.iter().filter(|(_, guest)| !guest.stays).map(|(number, _)| *number).collect();
        for number in waiting {
            if let Some(guest) = seats.leave(number) {
                guest.leave.notify_one();
            }
        }
    }

    /// How much is taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.seats().taken
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// Calls off one guest who takes so much at least.
    fn make_room(&mut self, size: usize) -> Option<()> {
        let waiting = self.guests.iter().filter(|(_, guest)| !guest.stays && guest.size >= size);
        let (number, _) = waiting.max_by_key(|(number, guest)| (guest.size, Reverse(**number)))?;
        let number = *number;
        self.leave(number).map(|guest| guest.leave.notify_one())
    }

    fn leave(&mut self, number: u64) -> Option<Guest> {
        let guest = self.guests.remove(&number)?;
        self.taken -= guest.size;
        Some(guest)
    }
}

/// One guest's seat, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Arc<Room>,
    number: u64,
    leave: Arc<Notify>,
}

impl Seat {
    /// Ready when the seat is another's.
    pub(crate) async fn called_off(&self) {
        self.leave.notified().await;
    }

    /// From now on this guest is not called off, or is again. `false`: he has no seat any more.
    pub(crate) fn stay(&self, stays: bool) -> bool {
        let mut seats = self.room.seats();
        let guest = seats.guests.get_mut(&self.number);
        guest.map(|guest| guest.stays = stays).is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.seats().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_called_off(seat: &Seat) -> bool {
        pin!(seat.called_off()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_gives_way_and_one_who_stays_does_not() {
        let room = Room::new(3);
        let [served, old, young] = [(); 3].map(|()| room.enter(1).unwrap());
        assert!(served.stay(true));
        let next = room.enter(1).unwrap();
        assert_eq!([&served, &old, &young, &next].map(is_called_off), [false, true, false, false]);
        assert!(!old.stay(true), "the seat is another's");
        assert!(young.stay(true) && next.stay(true));
        assert!(room.enter(1).is_none(), "all stay");
        assert!(served.stay(false));
        assert!(room.enter(1).is_some(), "whoever is done gives way");
        drop((served, old, young, next));
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn all_who_are_not_served_go_at_once() {
        let room = Room::new(3);
        let [served, head, body] = [(); 3].map(|()| room.enter(1).unwrap());
        assert!(served.stay(true));
        room.clear();
        assert_eq!([&served, &head, &body].map(is_called_off), [false, true, true]);
        assert_eq!(room.taken(), 1);
    }

    #[test]
    fn what_is_large_gives_way_before_what_is_small_and_never_to_what_is_larger() {
        let room = Room::new(10);
        let [small, large, middle] = [1, 5, 4].map(|size| room.enter(size).unwrap());
        assert!(room.enter(6).is_none());
        assert_eq!([&small, &large, &middle].map(is_called_off), [false; 3]);
        let next = room.enter(2).unwrap();
        assert_eq!([&small, &large, &middle].map(is_called_off), [false, true, false]);
        assert_eq!(room.taken(), 7);
        drop((small, large, middle, next));
        assert_eq!(room.taken(), 0);
    }
}
