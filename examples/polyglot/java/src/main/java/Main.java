import com.google.gson.Gson;
import java.awt.image.BufferedImage;
import java.io.*;
import java.util.*;
import javax.imageio.ImageIO;

/** What each type does. To make it yours: keep the shape, replace the handlers. */
final class Main {
    public static void main(String[] arguments) throws Exception {
        Responder.serve(System.getenv().getOrDefault("AJC_FAMILY", "conform"), 10, Map.of(
            "resize", task -> resize(task.payload(), 64),
            "echo", Responder.Attempt::payload,
            "fail", task -> { throw new Responder.Failure("AJ-Error", task.text()); },
            "crash", task -> { throw new IllegalStateException(task.text()); },
            "terminate", task -> { throw new Responder.Failure("AJ-Terminate", task.text()); },
            "busy", task -> { throw new Responder.Failure("AJ-Busy", task.text()); },
            "later", task -> { throw new Responder.Failure("AJ-Retry-After-Ms", task.text(), "AJ-Error", "later"); },
            "about", task -> new Gson().toJson(Map.of(
                "id", task.header("AJ-Task-Id", ""), "type", task.header("AJ-Task-Type", ""),
                "queue", task.header("AJ-Queue", ""), "try", Integer.valueOf(task.header("AJ-Try", "0")),
                "max_tries", Integer.valueOf(task.header("AJ-Max-Tries", "0")))).getBytes(),
            "slow", task -> {
                Thread.sleep(Long.parseLong(task.text())); // blocks, as Java's work does
                return task.payload();
            },
            "progress", task -> {
                List.of(1, 2, 3, 4).forEach(i -> task.progress(25 * i, "quarter " + i + " of 4"));
                return "done".getBytes();
            }));
    }

    /** An image in, a PNG that is `width` pixels wide out. */
    private static byte[] resize(byte[] picture, int width) throws Exception {
        var image = Objects.requireNonNull(ImageIO.read(new ByteArrayInputStream(picture)), "that is no picture");
        int height = Math.max(1, image.getHeight() * width / image.getWidth());
        var small = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
        small.createGraphics().drawImage(image, 0, 0, width, height, null);
        var png = new ByteArrayOutputStream();
        ImageIO.write(small, "png", png);
        return png.toByteArray();
    }
}
