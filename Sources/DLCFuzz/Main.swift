import DLCTensor
import DLCTestSupport
import Foundation

/// `dlc-fuzz [SECONDS] [SEED]`: random programs with nested loops and branches, compiled and
/// interpreted, until the time is over or one disagrees.
@main enum Main {
  static func main() {
    let arguments = CommandLine.arguments.dropFirst()
    let seconds = arguments.first.map { Double($0) } ?? 60
    let seed = arguments.dropFirst().first.map { UInt64($0) } ?? UInt64.random(in: 1..<1 << 40)
    guard let seconds, let seed, arguments.count <= 2, seconds > 0 else {
      FileHandle.standardError.write(Data("usage: fuzz-graphs [SECONDS] [SEED]\n".utf8))
      exit(64)
    }
    print("seed \(seed), \(Int(seconds)) s")
    let end = ContinuousClock.now + .milliseconds(Int(seconds * 1000))
    var (next, agree, unstable) = (seed, 0, 0)
    var said = ContinuousClock.now
    while ContinuousClock.now < end {
      let (outcome, failure) = ProgramFuzzer.run(seed: next, ProgramFuzzer.type(next))
      if let failure {
        print("seed \(failure.seed), \(failure.type): \(failure.complaint)")
        print("numbers \(failure.numbers)\n\(failure.text)")
        exit(2)
      }
      if case .unstable = outcome { unstable += 1 } else { agree += 1 }
      next &+= 1
      if ContinuousClock.now - said > .seconds(30) {
        said = ContinuousClock.now
        print("\(agree) programs agree, \(unstable) too sensitive to say")
        fflush(nil)
      }
    }
    print("\(agree) programs agree, \(unstable) too sensitive to say, 0 disagree")
  }
}
