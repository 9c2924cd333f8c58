import DLCTraining
import Foundation

/// A line that rewrites itself, on a terminal only.
final class ProgressBar {
  private let isTerminal = isatty(2) == 1
  private let start = ContinuousClock.now
  private var first: Int?

  func show(_ p: Trainer.Progress, _ metrics: [(name: String, value: Double)]) {
    guard isTerminal else { return }
    let begun = first ?? p.step
    first = begun
    let share = Double(p.step) / Double(max(p.totalSteps, 1))
    let filled = Int(share * 24)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let done = p.step - begun
    let left = done > 0 ? seconds / Double(done) * Double(p.totalSteps - p.step) : 0
    let text = metrics.filter { !$0.name.hasSuffix("learning_rate") }.map {
      "\($0.name) \(fixed($0.value, 4))"
    }
    .joined(separator: "  ")
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 24 - filled)
    let line =
      "\r\u{1B}[Kepoch \(p.epoch) [\(bar)] \(text)  \(fixed(p.examplesPerSecond, 0)) examples/s  \(fixed(left, 0)) s left"
    Console.say(p.isEpochEnd ? line + "\n" : line)
  }
}
