// Package survey finds out, for operators, where the copies of a cluster's objects are: which
// objects have fewer of them in their places than they should and why, and how much of a
// rebalance is still to be moved.
//
// It asks every device of a ring what it holds of each partition, by sums that the devices'
// indexes keep, and goes into the states of those partitions alone of which the sums do not
// agree. Nothing is sampled. It promises that what can't be asked is said to be unknown, and
// never counted as a copy. What happens while it looks may be seen half: what was written
// lately is looked at a second time before it is counted. It leaves to others how devices are reached.
package survey
