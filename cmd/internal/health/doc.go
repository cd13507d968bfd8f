// Package health asks all processes of a cluster how they are, and says what is wrong.
//
// Ask asks, everybody at one time and each no longer than it may take; Judge decides, from the answers alone, what is
// worth a warning and what is critical. What is printed, and how, is left to others.
package health
