//! Tests of the machines from outside, with real signatures and the reference sender. See `kit`.

#[cfg(test)]
mod kit;

#[cfg(test)]
mod conservation;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod money_rules;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod outgoing;
#[cfg(test)]
mod planning;
#[cfg(test)]
mod privacy;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod receiver_rules;
#[cfg(test)]
mod senders;
#[cfg(test)]
mod session;
#[cfg(test)]
mod settlement;
#[cfg(test)]
mod simulation;
