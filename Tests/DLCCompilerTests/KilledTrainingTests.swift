import DLCFormats
import DLCTensor
import Foundation
import Testing

@Suite struct KilledTrainingTests {
  /// Sends a signal as soon as there is a checkpoint, somewhere in the work after it.
  static func kill(
    _ process: Process, _ signal: Int32, afterCheckpointIn folder: String,
    named prefix: String = "step-"
  ) {
    for _ in 0..<60000 {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
      if names.contains(where: { $0.hasPrefix(prefix) }) { break }
      usleep(1000)
    }
    Foundation.kill(process.processIdentifier, signal)
  }

  /// A training run that is killed without warning goes on from its checkpoint to the same bits.
  @Test func killedTrainingResumesBitExactly() throws {
    let folder = ProgramTests.temporary()
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let arguments = [
      "train", CommandLineTests.graph, "--data", "\(DigitsTests.folder)/digits_test.npz", "--batch",
      "20", "--epochs", "12", "--seed", "4",
    ]
    func train(_ name: String, _ more: [String]) -> Process {
      let process = Process()
      process.executableURL = CommandLineTests.command
      process.arguments = arguments + ["-o", "\(folder)/\(name).safetensors"] + more
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      return process
    }
    let whole = train("whole", [])
    try whole.run()
    whole.waitUntilExit()
    #expect(whole.terminationStatus == 0)
    let checkpoints = ["--checkpoint", "\(folder)/c", "--checkpoint-every", "9"]
    let killed = train("killed", checkpoints)
    try killed.run()
    Self.kill(killed, SIGKILL, afterCheckpointIn: "\(folder)/c")
    killed.waitUntilExit()
    let resumed = train("resumed", checkpoints + ["--resume"])
    try resumed.run()
    resumed.waitUntilExit()
    #expect(resumed.terminationStatus == 0)
    let want = try Safetensors.read("\(folder)/whole.safetensors")
    let got = try Safetensors.read("\(folder)/resumed.safetensors")
    #expect(FormatTestsSupport.equal(want, got))
  }
}
